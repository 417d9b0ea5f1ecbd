"""Lists of cells and the sweeper that runs them: what is wrong with one, a list for each run, failures that count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from distill.commands.preflight import look, parsed
from distill.tables import run as running
from distill.tables.store import Store
from hydra_plugins.distill_cells_sweeper import CellsSweeper
from hydra_plugins.distill_process_launcher import CellFailed
from tests.tables.parts import declare


class Launcher:
    """Says of each cell what its last override says."""

    def launch(self, jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        found = []
        for typed in jobs:
            failed = typed[-1] == "fails"
            value: Any = CellFailed(f"{typed[0]}: no result") if failed else 1.0
            found.append(JobReturn(overrides=typed, status=JobStatus.FAILED if failed else JobStatus.COMPLETED))
            found[-1].return_value = value
        return found


def test_sweep__raises_what_failed_after_all_cells_ran() -> None:
    sweeper = CellsSweeper("cells.json")
    sweeper.launcher = Launcher()
    sweeper.cells = [["fine"], ["fine"]]
    assert [job.return_value for job in sweeper.sweep(["quiet=true"])] == [1.0, 1.0]
    sweeper.cells = [["fine"], ["fails"]]
    with pytest.raises(CellFailed, match="quiet=true: no result"):
        sweeper.sweep(["quiet=true"])


@pytest.mark.parametrize(
    "content, sentence",
    [
        (None, "there is no such file"),
        ("[", "is no JSON"),
        ("[]", "must be a list with one list of overrides for each cell"),
        ('["seed=1"]', "must be a list with one list of overrides for each cell"),
    ],
)
def test_look__says_what_is_wrong_with_a_list_of_cells(content: str | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "cells.json"
    if content is not None:
        file.write_text(content)
    found = look(parsed(["-m", "hydra/sweeper=cells", f"hydra.sweeper.file={file}"]), checks=False)
    assert [m for m in found.mistakes if sentence in m]


def test_launch__two_runs_of_a_table_have_a_list_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(declare(tmp_path / "table"), tmp_path / "runs")
    first, second = list(store.table)[:2]
    seen = []

    def launched(arguments: list[str]) -> int:
        if len(seen) == 0:
            seen.append(arguments)
            running.launch(store, [second], "basic", [])  # while the first has not yet read its list
        file = next(word for word in arguments if word.startswith("hydra.sweeper.file=")).partition("=")[2].strip("'")
        seen.append([command[-1] for command in json.loads(Path(file).read_text())])
        return 0

    monkeypatch.setattr("distill.commands.train.main", launched)
    assert running.launch(store, [first], "basic", []) == 0
    assert [len(commands) for commands in seen[1:]] == [1, 1]
    assert seen[1] == [f"hydra.sweep.subdir='{store.folder(second).relative_to(store.root)}'"]
    assert seen[2] == [f"hydra.sweep.subdir='{store.folder(first).relative_to(store.root)}'"]


def test_look__composes_the_cells_of_a_list(tmp_path: Path) -> None:
    file = tmp_path / "cells.json"
    file.write_text(json.dumps([["seed=3", "hydra.sweep.subdir=a"], ["sead=4"], ["loss=[ce,dkd]", "loss.dkd.beta=2"]]))
    found = look(parsed(["-m", "quiet=true", "hydra/sweeper=cells", f"hydra.sweeper.file={file}"]), checks=False)
    assert found.mistakes == ["sead=4: no such key; did you mean seed? (seed=4)"]
    assert [(cell.config["seed"], list(cell.config["loss"])) for cell in found.cells][::2] == [
        (3, ["ce", "kd"]), (0, ["ce", "dkd"]),
    ]  # fmt: skip
