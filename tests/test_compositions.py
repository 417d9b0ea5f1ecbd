"""Every option of every group composes into a config without a static mistake."""

from pathlib import Path

import pytest

from distill.check import problems
from distill.config import CONF, compose, resolved


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base")


LIBRARIES = ("timm", "hf", "clip", "open_clip", "predictions")
"""Networks that need a name, and a teacher that needs a file; they have tests of their own."""
NEEDED = {
    "hub": ["dataset.path=nowhere/nothing", "dataset.num_classes=2"],
    "medmnist": ["dataset.file=nowhere", "dataset.num_classes=2"],
    "image_folder": ["dataset.root=nowhere", "dataset.num_classes=2"],
    "vqa": ["dataset.root=nowhere"],
    "cifar10": ["student=resnet8", "teacher=resnet8"],
    "cifar100": ["student=resnet8", "teacher=resnet8"],
}
CASES = [
    *(("student", name) for name in options("student") if name not in LIBRARIES),
    *(("teacher", name) for name in options("teacher") if name not in LIBRARIES),
    *(("dataset", name) for name in options("dataset")),
    *(("dataset/augment", name) for name in options("dataset/augment")),
    *(("dataset/mix", name) for name in options("dataset/mix")),
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


@pytest.mark.parametrize("name", options("dataset"))
@pytest.mark.slow
def test_dataset__augmentation_and_mixing_are_chosen_and_changed(name: str) -> None:
    needed = [o for o in NEEDED.get(name, []) if o.startswith("dataset.")]
    plain = compose([f"dataset={name}", *needed])["dataset"]
    assert plain["mix"] is None
    chosen = ["dataset/augment=randaugment", "dataset.augment.parts.1.magnitude=5", "dataset/mix=mixup"]
    cfg = compose([f"dataset={name}", *needed, *chosen, "dataset.mix.alpha=1"])["dataset"]
    assert cfg["augment"]["parts"][1]["magnitude"] == 5
    assert cfg["mix"] == {"_target_": "distill.data.mix.Mixup", "alpha": 1}
    assert {k: v for k, v in cfg.items() if k not in ("augment", "mix")} == {
        k: v for k, v in plain.items() if k not in ("augment", "mix")
    }
    assert compose([f"dataset={name}", *needed, "dataset/augment=none"])["dataset"]["augment"] is None


def test_recipe__makes_the_schedule_of_the_tables() -> None:
    cfg = resolved(compose(["pair=resnet56_resnet20", "recipe=cifar_crd"]))
    assert (cfg["trainer"]["max_epochs"], cfg["optimizer"]["lr"], cfg["optimizer"]["weight_decay"]) == (240, 0.05, 5e-4)
    assert cfg["lr_scheduler"]["milestones"] == [150, 180, 210]
    mobile = resolved(compose(["pair=wrn_40_2_shufflenetv1", "recipe=cifar_crd"]))
    assert mobile["optimizer"]["lr"] == 0.01
