"""Every option of every group composes into a config without a static mistake."""

from pathlib import Path

import pytest

from distill.check import problems
from distill.config import CONF, compose, resolved


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base")


LIBRARIES = ("timm", "hf", "predictions")
"""Networks that need a name, and a teacher that needs a file; they have tests of their own."""
NEEDED = {
    "hub": ["dataset.path=nowhere/nothing", "dataset.num_classes=2"],
    "image_folder": ["dataset.root=nowhere", "dataset.num_classes=2"],
    "cifar10": ["student=resnet8", "teacher=resnet8"],
    "cifar100": ["student=resnet8", "teacher=resnet8"],
}
CASES = [
    *(("student", name) for name in options("student") if name not in LIBRARIES),
    *(("teacher", name) for name in options("teacher") if name not in LIBRARIES),
    *(("dataset", name) for name in options("dataset")),
    *(("optimizer", name) for name in options("optimizer")),
    *(("lr_scheduler", name) for name in options("lr_scheduler")),
    *(("logger", name) for name in options("logger")),
    *(("cache", name) for name in options("cache")),
    *(("pair", name) for name in options("pair")),
    *(("recipe", name) for name in options("recipe")),
    *(("+experiment", name) for name in options("experiment")),
]


@pytest.mark.slow
@pytest.mark.parametrize("group, name", CASES, ids=[f"{group}={name}" for group, name in CASES])
def test_problems__none_in_what_is_shipped(group: str, name: str, tmp_path: Path) -> None:
    images = ["dataset=cifar100"] if group in ("student", "teacher") and not name.startswith("digits") else []
    cfg = compose([*images, f"{group}={name}", *NEEDED.get(name, []), f"out={tmp_path}", "trainer.accelerator=cpu"])
    assert problems(cfg, dry_run=False) == []


def test_recipe__makes_the_schedule_of_the_tables() -> None:
    cfg = resolved(compose(["pair=resnet56_resnet20", "recipe=cifar_crd"]))
    assert (cfg["trainer"]["max_epochs"], cfg["optimizer"]["lr"], cfg["optimizer"]["weight_decay"]) == (240, 0.05, 5e-4)
    assert cfg["lr_scheduler"]["milestones"] == [150, 180, 210]
    mobile = resolved(compose(["pair=wrn_40_2_shufflenetv1", "recipe=cifar_crd"]))
    assert mobile["optimizer"]["lr"] == 0.01
