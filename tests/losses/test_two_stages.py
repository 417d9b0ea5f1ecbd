"""The experiments that train in two stages: which terms count in each."""

from pathlib import Path

import pytest

from distill.config import compose, resolved
from distill.fit import fit

SMALL = [
    "dataset=synthetic", "dataset.image_size=[16,16]", "dataset.samples=32", "dataset.batch_size=16",
    "student=resnet8", "teacher=[resnet14]", "teacher.resnet14.checkpoint=built",
    "trainer.max_epochs=2", "trainer.accelerator=cpu", "quiet=true",
    "scheduler.first_stage.until=[1]", "scheduler.second_stage.until=[1]",
]  # fmt: skip


@pytest.mark.parametrize("term, stays", [("ab", False), ("fsp", False), ("ft", True)])
def test_experiment__first_the_features_alone_then_the_labels(term: str, stays: bool, tmp_path: Path) -> None:
    more = ["scheduler.factor.until=[1]"] if term == "ft" else []
    experiment = f"+experiment={term}_resnet56_resnet20"
    first, second = fit(resolved(compose([experiment, *SMALL, *more, f"out={tmp_path}"])), [], "stages")["history"]
    assert first["loss/ce"] == 0
    assert first[f"loss/{term}"] > 0
    assert second["loss/ce"] > 0
    assert (second[f"loss/{term}"] > 0) == stays
    assert first["train/loss"] > 0


def test_experiment__the_real_stages_are_of_30_and_240_epochs() -> None:
    config = resolved(compose(["+experiment=ft_resnet56_resnet20", "teacher.resnet56.checkpoint=built"]))
    assert config["trainer"]["max_epochs"] == 270
    assert config["lr_scheduler"]["milestones"] == [180, 210, 240]
    ce, ft = config["loss"]["ce"], config["loss"]["ft"]
    assert all(node["until"] == [30] for node in (ce["weight"], ft["factor"], ft["reconstruction"]))
