"""What a config without a teacher trains: its own terms, beside the student alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.commands.plan import describe
from distill.commands.preflight import Cell
from distill.comparison import run
from distill.config import compose
from distill.fit import folder_of

SMALL = [
    "teacher=[]", "trainer.max_epochs=1", "trainer.accelerator=cpu", "dataset.train_size=80", "quiet=true", "seeds=1",
]  # fmt: skip


def test_run__a_method_that_takes_no_teacher_is_trained_beside_the_student_alone(tmp_path: Path) -> None:
    cfg = compose([*SMALL, "loss=[ce,tfkd]", "loss.ce.weight=0.9", f"out={tmp_path}"])
    result = run(cfg)
    (alone,), (own,) = result.arms["alone"], result.arms["distilled"]
    assert "loss/tfkd" in own["history"][0]
    assert own["config"]["loss"]["ce"]["weight"] == 0.9
    assert list(alone["config"]["loss"]) == ["ce"]
    assert alone["config"]["loss"]["ce"]["weight"] == 1.0
    assert own["label"].endswith("-ce+tfkd-s0")
    planned = describe(Cell("", cfg)).splitlines()
    assert [line.partition(":")[0].strip() for line in planned] == [
        "student alone, seed 0", "student distilled with ce+tfkd, seed 0",
    ]  # fmt: skip
    assert all("complete" in line and str(tmp_path) in line for line in planned)
    assert list(run({**cfg, "alone": False}).arms) == ["distilled"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_run__labels_alone_are_learned_as_the_config_says(smoothing: float, tmp_path: Path) -> None:
    result = run(compose([*SMALL, "loss=[ce]", f"loss.ce.label_smoothing={smoothing}", f"out={tmp_path}"]))
    assert list(result.arms) == ["alone"]
    (record,) = result.arms["alone"]
    assert record["config"]["loss"]["ce"]["label_smoothing"] == smoothing
    assert "-alone-s0-" in folder_of(record["config"]).name
