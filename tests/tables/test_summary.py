"""`distill table` on fabricated summaries and records."""

from __future__ import annotations

import csv
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from distill.tables.found import collect
from distill.tables.summary import lines_of, main


def _run(runs: Path, label: str, seed: int, last: float, *, taught: bool, val: float | None = None, **more: Any) -> str:
    """Write the record of one training and return its folder's name as a summary has it."""
    accuracy = {"last": last, "best_on_test": last + 1, "val_chosen": None if val is None else last - 1, "val": val}
    teacher = {"big": {"checkpoint": "runs/big-s0-ff/student.safetensors"}} if taught else {}
    record = {
        "status": "complete", "label": f"{label}-s{seed}", "fingerprint": f"{label}{seed}", "accuracy": accuracy,
        "config": {"seed": seed, "teacher": teacher}, "overrides": [], "params": 438, "seconds": 2.0 + seed, **more,
    }  # fmt: skip
    folder = runs / f"{label}-s{seed}-{record['fingerprint']}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(record))
    return f"runs/{folder.name}"


def _cell(folder: Path, overrides: list[str], folders: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "summary.json").write_text(json.dumps({"overrides": overrides, "folders": folders, "teachers": {}}))


def _sweep(tmp_path: Path, val: float | None = 80.0) -> Path:
    """A sweep of two settings, three seeds each in cells of one, and a cell that failed."""
    runs = tmp_path / "runs"
    teacher = runs / "big-s0-ff"
    _run(runs, "big", 0, 99.0, taught=False, val=99.0 if val else None)
    shutil.copytree(runs / "big-s0-big0", teacher)
    sweep = runs / "sweeps" / "now"
    for i, (weight, seed) in enumerate((w, s) for w in (1, 2) for s in (0, 1, 2)):
        plus = {0: 0.0, 1: 1.0, 2: 3.0}[seed] * weight
        taught = _run(runs, f"tiny-kd{weight}", seed, 90 + plus, taught=True, val=val and val + weight)
        plain = _run(runs, "tiny-alone", seed, 88 + seed, taught=False, val=val)
        words = ["trainer.max_epochs=2", f"loss.kd.weight={weight}", f"seed={seed}", "quiet=true", f"out={runs}"]
        _cell(sweep / str(i), words, {"alone": [plain], "distilled": [taught]})
    bad = sweep / "6" / ".hydra"
    bad.mkdir(parents=True)
    (bad / "overrides.yaml").write_text("- trainer.max_epochs=2\n- loss.kd.weight=-1\n- seed=0\n")
    (sweep / "6" / "job.out").write_text("hello\nloss.kd.weight=-1: must not be negative\n\n")
    return sweep


def test_lines_of__merges_seeds_of_cells(tmp_path: Path) -> None:
    lines, rule = lines_of(collect([_sweep(tmp_path)]), "last")
    assert rule == "last"
    assert [line.row.typed[-1] for line in lines] == ["loss.kd.weight=2", "loss.kd.weight=1"]
    best = lines[0]
    assert best.distilled == pytest.approx((statistics.fmean([90, 92, 96]), statistics.stdev([90, 92, 96]), 3))
    assert best.alone == pytest.approx((89, 1, 3))
    gains = [90 - 88, 92 - 89, 96 - 90]
    assert best.gain == pytest.approx((statistics.fmean(gains), statistics.stdev(gains), 3))
    assert (best.teacher, best.params, best.seconds, best.seeds) == (99.0, 438, 3.0, [0, 1, 2])


@pytest.mark.parametrize("rule, shift", [("last", 0), ("best_on_test", 1), ("val_chosen", -1)])
def test_lines_of__rule_chooses_the_accuracy(rule: str, shift: int, tmp_path: Path) -> None:
    lines, _ = lines_of(collect([_sweep(tmp_path)]), rule)
    by_weight = {line.row.typed[-1]: line for line in lines}
    assert by_weight["loss.kd.weight=1"].main.mean == pytest.approx(statistics.fmean([90, 91, 93]) + shift)
    assert by_weight["loss.kd.weight=1"].teacher == 99.0 + shift


def test_lines_of__orders_by_validation(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, test, val in (("a", 95.0, 70.0), ("b", 90.0, 75.0)):
        _cell(
            runs / "jobs" / name, [f"student={name}"], {"distilled": [_run(runs, name, 0, test, taught=True, val=val)]}
        )
    found = collect([runs])
    assert [x.row.typed for x in lines_of(found, None)[0]] == [["student=b"], ["student=a"]]
    assert [x.row.typed for x in lines_of(found, "last")[0]] == [["student=a"], ["student=b"]]


def test_lines_of__without_validation_falls_back_to_last(tmp_path: Path) -> None:
    found = collect([_sweep(tmp_path, val=None)])
    lines, rule = lines_of(found, None)
    assert rule == "last"
    assert lines[0].val is None
    with pytest.raises(ValueError, match="--rule val_chosen: some run held out no validation split"):
        lines_of(found, "val_chosen")


def test_collect__same_cell_twice_counts_once(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    shutil.copytree(sweep, sweep.parent / "again")
    lines, _ = lines_of(collect([sweep.parent]), "last")
    assert [len(line.seeds) for line in lines] == [3, 3]


def test_collect__tree_that_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sweep(tmp_path)
    moved = tmp_path / "elsewhere" / "kept"
    moved.parent.mkdir()
    (tmp_path / "runs").rename(moved)
    monkeypatch.chdir("/")
    found = collect([moved / "sweeps" / "now"])
    assert len(found.rows) == 2
    assert all(row.teachers for row in found.rows.values())


def test_collect__runs_that_are_gone_are_named(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    shutil.rmtree(tmp_path / "runs" / "tiny-kd1-s1-tiny-kd11")
    found = collect([sweep])
    assert any("tiny-kd1-s1-tiny-kd11/result.json is not there" in line for line in found.missing)
    assert len(found.rows) == 2


def test_collect__later_of_two_configs_counts(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for i, (name, value) in enumerate((("new", 95.0), ("old", 91.0))):
        _cell(runs / "jobs" / name, ["loss=[ce,kd]"], {"distilled": [_run(runs, name, 0, value, taught=True)]})
        stamp = time.time() - 100 * i
        os.utime(runs / "jobs" / name / "summary.json", (stamp, stamp))
    found = collect([runs])
    lines, _ = lines_of(found, None)
    assert lines[0].main == (95.0, 0.0, 1)
    assert "loss=[ce,kd]: seed 0 (distilled) was trained with two configs" in found.warnings[0]


def test_collect__failure_made_up_for_is_not_named(tmp_path: Path) -> None:
    sweep = _sweep(tmp_path)
    runs = tmp_path / "runs"
    words = ["loss.kd.weight=-1", "trainer.max_epochs=2", "seed=0", "tags=[x]"]
    _cell(runs / "jobs" / "fixed", words, {"distilled": [_run(runs, "fixed", 0, 50, taught=True, val=1.0)]})
    assert len(collect([sweep]).missing) == 1
    assert collect([runs]).missing == []


def test_collect__checked_cells_are_not_missing(tmp_path: Path) -> None:
    hydra = tmp_path / "0" / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "overrides.yaml").write_text("- check=only\n")
    assert collect([tmp_path]).missing == []


def test_collect__run_folders_without_a_comparison(tmp_path: Path) -> None:
    for seed in (0, 1):
        _run(tmp_path, "tiny-kd", seed, 90 + 2 * seed, taught=True)
    broken = tmp_path / "tiny-kd-s2-00"
    broken.mkdir()
    (broken / "result.json").write_text(
        json.dumps({"status": "failed", "error": "loss/kd is not finite", "config": {}})
    )
    found = collect([tmp_path])
    (line,), _ = lines_of(found, None)
    assert (line.row.name, line.main.mean, line.main.n) == ("tiny-kd", 91.0, 2)
    assert found.missing == [f"{broken}: failed: loss/kd is not finite"]


def test_main__says_it_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = _sweep(tmp_path)
    (sweep / "7").mkdir()
    (sweep / "7" / "summary.json").write_text('{"overrides": ["a')
    assert main([str(sweep), "--csv", str(tmp_path / "t.csv")]) == 0
    shown = capsys.readouterr()
    assert "91.67 ± 3.06" in shown.out  # val_chosen: one below last
    assert "all: trainer.max_epochs=2" in shown.out
    assert "best: loss.kd.weight=2: 91.67 ± 3.06 (n=3)" in shown.out
    assert "again: distill train trainer.max_epochs=2 loss.kd.weight=2 seed=0 seeds=3" in shown.out
    assert "warning:" in shown.err
    assert "not a summary that can be read" in shown.err
    assert "loss.kd.weight=-1: must not be negative" in shown.err
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [float(r["distilled_mean"]) for r in rows] == pytest.approx([275 / 3, 271 / 3])
    assert rows[0]["command"].startswith("distill train trainer.max_epochs=2")


def test_main__markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(_sweep(tmp_path)), "--markdown", "--rule", "last"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| setting | distilled % | alone % | gain | teacher % | val % | seeds | params | train s |"
    assert lines[2].startswith(
        "| loss.kd.weight=2 | 92.67 ± 3.06 | 89.00 ± 1.00 | +3.67 ± 2.08 | 99.00 | 82.00 ± 0.00 |"
    )


def test_main__command_lists_seeds_with_gaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    kept = [_run(runs, "a", seed, 90, taught=True) for seed in (1, 5)]
    _cell(runs / "jobs" / "x", ["loss=[ce,kd]", "seed=1,5"], {"distilled": kept})
    assert main([str(runs)]) == 0
    assert "again: distill train -m 'loss=[ce,kd]' seed=1,5" in capsys.readouterr().out


def test_main__nothing_and_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "nothing to show" in capsys.readouterr().err
    assert main([str(tmp_path / "absent")]) == 2
    assert "no such folder" in capsys.readouterr().err
