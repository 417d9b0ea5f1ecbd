"""The sweeper of listed cells: a cell that failed is no success, whichever launcher ran it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

from hydra_plugins.distill_cells_sweeper import CellsSweeper
from hydra_plugins.distill_process_launcher import CellFailed


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
