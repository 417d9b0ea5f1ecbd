"""Importance of overrides and Pareto fronts, against shares computed by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.tables.front import front
from distill.tables.importance import groups, importances, report
from distill.tables.summary import main
from tests.tables.test_summary import _cell, _run

GRID = [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"}]


def test_importances__of_a_grid() -> None:
    # mean 5; by a: means 2 and 8, 2 x 9 + 2 x 9 = 36; by b: means 3.5 and 6.5, 2 x 2.25 + 2 x 2.25 = 9
    values = [1.0, 3.0, 6.0, 10.0]
    total = 16 + 4 + 1 + 25
    first, second = importances(GRID, values)
    assert (first.key, first.groups, first.settings) == ("a", 2, 4)
    assert first.share == pytest.approx(36 / total)
    assert second.share == pytest.approx(9 / total)
    assert (first.chance, second.chance) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert "not above chance" in report([first, second])[2]  # 9 of 46 is below a third


def test_importances__what_is_not_varied_or_not_given() -> None:
    settings = [{"a": "1", "c": "z"}, {"c": "z"}, {"a": "1", "c": "z"}, {"c": "z"}]
    (only,) = importances(settings, [1.0, 2.0, 1.0, 2.0])
    assert (only.key, only.share) == ("a", pytest.approx(1.0))


def test_importances__of_numbers_that_all_differ() -> None:
    # six numbers make two bins of three: {0.1, 0.2, 0.3} and {1, 2, 10}, in the order of size and not of text
    settings = [{"lr": text} for text in ("10", "0.1", "2", "0.2", "1", "0.3")]
    (only,) = importances(settings, [5.0, 1.0, 4.0, 2.0, 3.0, 3.0])
    # mean 3; bins of mean 4 and 2: 3 + 3 = 6 of 4 + 4 + 1 + 1 = 10
    assert (only.groups, only.share) == (2, pytest.approx(0.6))


def test_groups__equal_numbers_stay_together_and_words_are_not_binned() -> None:
    assert groups(["1", "2", "1", "2"]) == ["1", "2", "1", "2"]
    assert groups(["b", "a", "c"]) == ["b", "a", "c"]
    tied = groups(["1", "2", "2", "2", "3", "4", "5"])
    assert tied[1] == tied[2] == tied[3]


@pytest.mark.parametrize(
    "settings, values",
    [
        ([{"a": "1"}, {"a": "2"}], [1.0, 2.0]),  # two settings
        ([{"a": "x"}, {"a": "y"}, {"a": "z"}], [1.0, 2.0, 3.0]),  # a group each
        (GRID, [2.0, 2.0, 2.0, 2.0]),  # nothing to explain
    ],
)
def test_importances__none_where_it_cannot_be_told(settings: list[dict[str, str]], values: list[float]) -> None:
    found = importances(settings, values)
    assert {one.share for one in found} == {None}
    assert "cannot be told" in report(found)[1]


def test_report__limits_are_said() -> None:
    assert report([]) == []
    lines = report(importances(GRID, [1.0, 3.0, 6.0, 10.0]), pruned=2)
    assert "few settings (4)" in lines[-2]
    assert "2 pruned" in lines[-1]
    many = [{"a": str(i % 2), "b": str(i // 4)} for i in range(8)]
    assert not any("few settings" in line for line in report(importances(many, [float(i) for i in range(8)])))


def test_front__by_hand() -> None:
    points = [(90.0, 5.0), (80.0, 6.0), (95.0, 9.0), (95.0, 9.0), (90.0, 4.0), (70.0, 4.0)]
    assert front(points, ["maximize", "minimize"]) == [2, 3, 4]
    assert front(points, ["maximize", "maximize"]) == [2, 3]
    assert front([(1.0,)], ["minimize"]) == [0]


def test_main__front_importance_and_pruned_of_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs, sweep = tmp_path / "runs", tmp_path / "runs" / "sweeps" / "a"
    made = [(8, 70.0, 2e6), (14, 75.0, 4e6), (20, 74.0, 6e6), (20, 80.0, 8e6)]
    for i, (depth, val, flops) in enumerate(made):
        folder = _run(runs, f"net{i}", 0, val, taught=True, val=val, flops=flops)
        words = [f"student.depth={depth}", f"student.width={i}", f"trial={{storage:x,study:a,number:{i}}}"]
        _cell(sweep / str(i), words, {"distilled": [folder]})
    (sweep / "4").mkdir()
    pruned = {"status": "pruned", "overrides": ["student.depth=8", "trial={}"], "reason": "pruned after epoch 3 at 9 %"}
    (sweep / "4" / "summary.json").write_text(json.dumps(pruned))
    search = {"objectives": ["val_accuracy", "flops"], "directions": ["maximize", "minimize"]}
    (sweep / "search.json").write_text(json.dumps(search))
    assert main([str(sweep)]) == 0
    said = capsys.readouterr().out
    assert "Pareto front (3 of 4 settings; val_accuracy maximized, flops minimized):" in said
    front_lines = [line.strip() for line in said.splitlines() if line.strip().startswith("val_accuracy ")]
    assert [line.partition(":")[0] for line in front_lines] == [
        "val_accuracy 80.00, flops 8 M", "val_accuracy 75.00, flops 4 M", "val_accuracy 70.00, flops 2 M"
    ]  # fmt: skip
    # depths 8 and 14 against 20 and 20: means 72.5 and 77 around 74.75, 4 x 5.0625 of 50.75
    assert "student.depth   40 % (chance 33 %) in 2 groups" in said
    assert "1 pruned by the search:\n  student.depth=8: pruned after epoch 3 at 9 %" in said
    assert "trial=" not in said
