"""Processes of a sweep: one in each slot, failures, interruption."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from distill.cells import Cell, Watcher, is_running, run_cells

WRITES = """
import json, os, sys, time
start = time.time()
time.sleep(float(sys.argv[2]))
json.dump({"objective": float(sys.argv[1]), "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "start": start,
           "end": time.time(), "accuracy": {"distilled": {"mean": 90.0, "std": 1.0, "n": 2}}},
          open("summary.json", "w"))
"""


def _cell(folder: Path, number: int, code: str = WRITES, wait: float = 0.0) -> Cell:
    where = folder / str(number)
    where.mkdir()
    program = f"import os; os.chdir({str(where)!r})\n{code}"
    return Cell(number, f"x={number}", [sys.executable, "-c", program, str(number), str(wait)], where)


def test_run_cells__gives_each_summary_in_order(tmp_path: Path) -> None:
    made = [_cell(tmp_path, i, wait=0.2 * (2 - i)) for i in range(3)]
    ended = run_cells(made, [{}, {}, {}], poll=0.01)
    assert [found.summary["objective"] for found in ended] == [0.0, 1.0, 2.0]
    assert all(found.failure is None for found in ended)


def test_run_cells__one_cell_at_a_time_in_a_slot(tmp_path: Path) -> None:
    made = [_cell(tmp_path, i, wait=0.15) for i in range(4)]
    slots = [{"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}]
    found = [ended.summary for ended in run_cells(made, slots, poll=0.01)]
    assert {s["gpu"] for s in found} == {"5", "7"}
    for gpu in ("5", "7"):
        spans = sorted((s["start"], s["end"]) for s in found if s["gpu"] == gpu)
        assert all(first[1] <= second[0] for first, second in zip(spans, spans[1:], strict=False))


def test_run_cells__failure_is_named_and_stops_nobody(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = _cell(tmp_path, 0, "import sys; print('loss.kd.weight: must not be negative'); sys.exit(2)")
    silent = _cell(tmp_path, 1, "pass")
    ended = run_cells([bad, silent, _cell(tmp_path, 2)], [{}], poll=0.01)
    assert ended[0].failure == "[0] x=0: exit code 2: loss.kd.weight: must not be negative"
    assert ended[1].failure is not None
    assert "wrote no summary.json" in ended[1].failure
    assert ended[2].failure is None
    shown = capfd.readouterr().err
    assert "2 of 3 cells failed" in shown
    assert str(tmp_path / "0" / "job.out") in shown
    assert "[2] done in" in shown
    assert "distilled 90.00 ± 1.00 %" in shown


def test_run_cells__waits_with_a_cell_that_is_not_ready(tmp_path: Path) -> None:
    made = [_cell(tmp_path, i, wait=0.3 if i == 0 else 0.0) for i in range(3)]

    def ready(cell: Cell, running: Sequence[Cell]) -> bool:
        return not (cell.number == 1 and any(other.number == 0 for other in running))

    first, second, third = (ended.summary for ended in run_cells(made, [{}, {}], poll=0.01, ready=ready))
    assert third["start"] < first["end"] <= second["start"]


def test_is_running__while_the_cell_lives(tmp_path: Path) -> None:
    seen: list[bool] = []

    class Looks(Watcher):
        def started(self, cell: Cell, device: str | None) -> None:
            seen.append(is_running(cell.folder))

    cell = _cell(tmp_path, 0, wait=0.1)
    assert not is_running(cell.folder)
    run_cells([cell], [{}], poll=0.01, watcher=Looks())
    assert seen == [True]
    assert not is_running(cell.folder)


def test_run_cells__check_needs_no_summary(tmp_path: Path) -> None:
    cell = _cell(tmp_path, 0, "pass")
    cell.trains = False
    assert run_cells([cell], [{}], poll=0.01)[0].failure is None


def test_run_cells__sigterm_reaches_the_cells(tmp_path: Path) -> None:
    child = "import signal, sys, time\nsignal.signal(15, lambda *_: (open('stopped', 'w').close(), sys.exit(143)))\n"
    child += "open('ready', 'w').close()\ntime.sleep(60)"
    program = f"""
    import sys
    from pathlib import Path
    from distill.cells import Cell, run_cells
    folder = Path({str(tmp_path)!r})
    child = "import os; os.chdir(%r)\\n" % str(folder) + {child!r}
    later = [sys.executable, "-c", "open(%r, 'w').close()" % str(folder / "second")]
    run_cells([Cell(0, "a", [sys.executable, "-c", child], folder), Cell(1, "b", later, folder)], [{{}}], poll=0.01)
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.02)
    parent.send_signal(signal.SIGTERM)
    _, shown = parent.communicate(timeout=30)
    assert parent.returncode == 143, shown
    assert (tmp_path / "stopped").exists()
    assert not (tmp_path / "second").exists()
