"""Statistics of declared tables, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from distill.tables.render import text
from distill.tables.spec import Line, Published, Source
from distill.tables.statistics import Scores, paired, score
from tests.tables.example import entry, table

A = "r56_r20"
T_975 = {1: 12.706204736, 2: 4.302652730, 4: 2.776445105}
"""Two-sided 95 % points of Student's t from a printed table, by degrees of freedom."""


def _scores(*found: tuple[str, int, float], **changes: object) -> Scores:
    return score(table(**changes), [entry(row, A, seed, last) for row, seed, last in found])


def test_paired__interval_by_hand() -> None:
    # differences 1, 2, 3: mean 2, sample deviation 1
    found = paired({0: 11.0, 1: 22.0, 2: 33.0, 9: 5.0}, {2: 30.0, 1: 20.0, 0: 10.0, 7: 1.0})
    assert found is not None
    half = T_975[2] / math.sqrt(3)
    assert found.n == 3
    assert found[:3] == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert found.undecided  # 2 - 2.48 < 0


@pytest.mark.parametrize("differences, undecided", [([1.0, 1.1], False), ([1.0, 3.0], True)])
def test_paired__two_seeds(differences: list[float], undecided: bool) -> None:
    found = paired(dict(enumerate(differences)), {0: 0.0, 1: 0.0})
    assert found is not None
    assert found.low is not None
    gap = differences[1] - differences[0]
    assert found.mean - found.low == pytest.approx(T_975[1] * (gap / math.sqrt(2)) / math.sqrt(2))
    assert found.undecided is undecided


def test_paired__one_seed_has_no_interval() -> None:
    assert paired({0: 71.0}, {0: 70.0, 1: 3.0}) == (1.0, None, None, 1)
    assert paired({0: 71.0}, {1: 70.0}) is None


def test_score__mean_deviation_and_gain() -> None:
    scores = _scores(*(("kd", i, 70.0 + i) for i in range(3)), *(("dkd", i, 71.0 + 2 * i) for i in range(3)))
    cell = scores.cells["dkd", A]
    assert cell.accuracy == pytest.approx((73.0, 2.0, 3))
    assert cell.gain is not None
    assert cell.gain.mean == pytest.approx(2.0)
    assert cell.gain.high == pytest.approx(2.0 + T_975[2] / math.sqrt(3))
    assert scores.cells["kd", A].gain is None
    assert not scores.warnings


def test_score__not_run_is_never_the_published_number() -> None:
    cell = _scores(("kd", 0, 70.0)).cells["crd", A]
    assert cell.accuracy is None
    assert cell.rank is None
    assert cell.comparison is not None
    assert cell.comparison.published.value == 71.16
    assert cell.comparison.delta is None
    assert not cell.comparison.departs


def test_score__later_training_of_a_seed_counts() -> None:
    old = entry("kd", A, 0, 60.0, finished="2026-01-01T00:00:00+00:00", fingerprint="old")
    new = entry("kd", A, 0, 70.0, finished="2026-01-03T00:00:00+00:00", fingerprint="new")
    for order in ([old, new], [new, old, new]):
        scores = score(table(), order)
        assert [e.fingerprint for e in scores.cells["kd", A].entries] == ["new"]
        assert len(scores.warnings) == 1
        assert "kd / r56_r20 / seed 0: trained twice" in scores.warnings[0]
        assert "2026-01-03" in scores.warnings[0].partition("counts")[0]


def test_score__strangers_are_named_and_left_out() -> None:
    found = [entry("gone", A, 0, 99.0), entry("kd", A, 7, 99.0), entry("kd", "gone", 0, 99.0), entry("kd", A, 0, 70.0)]
    scores = score(table(), found)
    assert [cell.accuracy for cell in scores.done()] == [(70.0, 0.0, 1)]
    assert [warning.split(":")[0] for warning in scores.warnings] == [
        "gone / r56_r20 / seed 0", "kd / gone / seed 0", "kd / r56_r20 / seed 7"]  # fmt: skip


@pytest.mark.parametrize("ours, departs", [(70.96, False), (70.36, False), (70.97, True), (70.35, True)])
def test_score__mark_beyond_the_tolerance(ours: float, departs: bool) -> None:
    compared = _scores(("kd", 0, ours)).cells["kd", A].comparison
    assert compared is not None
    assert compared.delta == pytest.approx(ours - 70.66)
    assert compared.departs is departs


def test_score__compares_by_the_rule_of_the_source() -> None:
    published = {("kd", A): (Published(70.0, "best"), Published(10.0, "crd"))}
    sources = {"best": Source("best", "best_on_test"), "crd": Source("crd", "last")}
    cell = _scores(("kd", 0, 70.0), ("kd", 1, 71.0), published=published, sources=sources).cells["kd", A]
    assert cell.accuracy is not None
    assert cell.comparison is not None
    assert cell.accuracy.mean == pytest.approx(70.5)
    assert cell.comparison.ours is not None
    assert cell.comparison.ours.mean == pytest.approx(70.9)
    assert cell.comparison.delta == pytest.approx(0.9)


@pytest.mark.parametrize("rule, ours", [("last", 70.0), ("best_on_test", 70.4)])
def test_score__source_that_states_no_rule_compares_by_that_of_the_table(rule: str, ours: float) -> None:
    published, sources = {("kd", A): (Published(70.1, "silent"),)}, {"silent": Source("silent", "unknown")}
    declared = table(rule=rule, published=published, sources=sources)
    cell = score(declared, [entry("kd", A, 0, 70.0)]).cells["kd", A]
    assert cell.comparison is not None
    assert cell.comparison.rule == rule
    assert cell.comparison.ours == pytest.approx((ours, 0.0, 1))
    assert text.rule_note(cell, rule) == ""


def test_score__source_rule_that_ours_lacks() -> None:
    published, sources = {("kd", A): (Published(70.0, "val"),)}, {"val": Source("val", "val_chosen")}
    cell = score(table(published=published, sources=sources), [entry("kd", A, 0, 70.0, val_chosen=None)]).cells["kd", A]
    assert cell.comparison is not None
    assert cell.comparison.delta is None


def test_score__rule_of_the_table_that_a_run_lacks() -> None:
    found = [entry("kd", A, 0, 70.0), entry("kd", A, 1, 72.0, val_chosen=None)]
    scores = score(table(rule="val_chosen"), found)
    assert scores.cells["kd", A].accuracy == pytest.approx((69.8, 0.0, 1))
    assert scores.warnings == ["kd / r56_r20: no accuracy of the epoch chosen on validation for seed 1; left out"]


def test_score__ranks_and_ties() -> None:
    means = {"kd": [70.0, 70.1, 70.2], "dkd": [71.0, 71.3, 70.9], "kd51": [71.1, 71.0, 71.4], "fitnet": [70.9]}
    scores = _scores(*((row, i, x) for row, found in means.items() for i, x in enumerate(found)))
    marks = {row: (c.rank, c.best, c.tied) for (row, column), c in scores.cells.items() if column == A}
    assert marks["kd51"] == (1, True, False)
    assert marks["dkd"] == (2, False, True)
    assert marks["kd"] == (4, False, False)
    assert marks["fitnet"] == (3, False, False)  # one seed in common cannot tell
    assert marks["teacher"] == marks["crd"] == (None, False, False)


def test_score__teachers_of_a_column() -> None:
    found = [
        entry("", A, 0, 72.0, arm="teacher", label="a"), entry("teacher", A, 0, 74.0, label="b"),
        entry("teacher", A, 5, 76.0, label="b"), entry("kd", A, 0, 99.0),
    ]  # fmt: skip
    cell = score(table(), found).cells["teacher", A]
    assert cell.accuracy == pytest.approx((74.0, 2.0, 3))
    assert cell.rank is None
    assert cell.gain is None
    assert not cell.short


def test_score__short_of_seeds_and_mixed_recipes() -> None:
    scores = score(table(), [entry("kd", A, 0, 70.0), entry("kd", A, 1, 71.0, epochs=2)])
    assert scores.cells["kd", A].short
    assert scores.warnings == ["kd / r56_r20: its trainings differ in epochs"]


def test_score__two_teacher_rows_share_no_lines() -> None:
    rows = (Line("big", "Big", arm="teacher"), Line("small", "Small", arm="teacher"), Line("kd", "KD"))
    found = [entry("big", A, 0, 76.0, arm="teacher"), entry("small", A, 0, 72.0, arm="teacher")]
    scores = score(table(rows=rows, published={}, left_out={}), found)
    assert [scores.cells[row, A].accuracy for row in ("big", "small", "kd")] == [(76.0, 0.0, 1), (72.0, 0.0, 1), None]
