"""The picture of a comparison."""

from __future__ import annotations

import math
import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from distill.plots import curve, curves
from distill.results import Result


def _record(seed: int, level: float, epochs: int, **terms: float) -> dict[str, Any]:
    noise = random.Random(seed)
    history = [
        {
            "epoch": epoch, "test/accuracy": level - (level - 10) * math.exp(-epoch / 6) + noise.gauss(0, 0.8),
            **{name.replace("__", "/").replace("_", "."): value / epoch for name, value in terms.items()},
        }
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    return {"history": history, "accuracy": {"val_chosen": None, "last": level}, "config": {"seed": seed}}


def _result(epochs: int = 40, seeds: int = 4) -> Result:
    terms: dict[str, float] = {
        "loss__ce": 2.3,
        "loss__kd": 30.0,
        "schedule__kd_temperature": 5,
        "schedule__kd_weight": 1,
    }
    arms = {
        "alone": [_record(i, 90 + 0.3 * i, epochs, loss__ce=2.3) for i in range(seeds)],
        "distilled": [_record(10 + i, 94 + 0.3 * i, epochs, **terms) for i in range(seeds)],
    }
    return Result({"big": _record(99, 99, epochs * 2)}, arms, {}, [])


def test_curve__mean_and_deviation_over_shared_epochs() -> None:
    records = [
        {"history": [{"epoch": 1, "x": 1.0}, {"epoch": 2, "x": 3.0}]},
        {"history": [{"epoch": 1, "x": 2.0}, {"epoch": 2, "x": 7.0}, {"epoch": 3, "x": 9.0}]},
    ]
    found = curve(records, "x")
    assert found.epochs == [1, 2]
    assert found.mean == [1.5, 5.0]
    assert found.std == pytest.approx([statistics.stdev([1, 2]), statistics.stdev([3, 7])])
    assert curve(records[:1], "x").std == [0.0, 0.0]


def test_curves__draws_a_panel_for_each_kind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "curves.png"
    curves(_result(), path)
    with Image.open(path) as image:
        assert image.size == (round(4 * 4.8 * 130), round(3.7 * 130))
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert {(0, 114, 178), (213, 94, 0)} <= colours


@pytest.mark.parametrize("epochs, seeds", [(1, 1), (2, 1), (1, 3)])
def test_curves__short_runs(epochs: int, seeds: int, tmp_path: Path) -> None:
    curves(_result(epochs, seeds), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_curves__student_alone(tmp_path: Path) -> None:
    result = _result()
    curves(Result({}, {"alone": result.arms["alone"]}, {}, []), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size[0] == round(2 * 4.8 * 130)
