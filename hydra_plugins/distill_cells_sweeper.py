"""Hydra sweeper `cells`: runs the cells that a file lists, each with overrides of its own, through any launcher."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig


@dataclass
class CellsSweeperConf:
    """Config of the sweeper."""

    _target_: str = "hydra_plugins.distill_cells_sweeper.CellsSweeper"
    file: str = MISSING  # JSON: a list with one list of overrides for each cell


class CellsSweeper(Sweeper):
    """Hands every listed cell to the launcher; what was typed on the command line stands before a cell's own overrides.

    Args:
        file: JSON file with one list of overrides for each cell.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Read the cells and make the launcher.

        Raises:
            CompactHydraException: when the file is not there or lists no cells.
        """
        try:
            self.cells = read_cells(self.file)
        except ValueError as error:
            raise CompactHydraException(str(error)) from error
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        """Run all cells and return what became of them, in order; raises what the first that failed raised."""
        assert self.launcher is not None
        found = self.launcher.launch([[*arguments, *cell] for cell in self.cells], initial_job_idx=0)
        for job in found:
            job.return_value  # noqa: B018 - asking for that of a failed job raises, as Hydra's own sweeper does
        return found


def read_cells(file: str) -> list[list[str]]:
    """Return the overrides of each cell that a file lists.

    Raises:
        ValueError: when it is not there, or no JSON list of lists of texts.
    """
    try:
        cells: Any = json.loads(Path(file).read_text())
    except OSError as error:
        raise ValueError(f"hydra.sweeper.file={file}: there is no such file") from error
    except ValueError as error:
        raise ValueError(f"hydra.sweeper.file={file}: is no JSON ({error})") from error
    good = isinstance(cells, list) and all(isinstance(cell, list) for cell in cells)
    if not good or not cells or not all(isinstance(text, str) for cell in cells for text in cell):
        raise ValueError(f"hydra.sweeper.file={file}: must be a list with one list of overrides for each cell")
    return [list(cell) for cell in cells]


ConfigStore.instance().store(group="hydra/sweeper", name="cells", node=CellsSweeperConf, provider="distill")
