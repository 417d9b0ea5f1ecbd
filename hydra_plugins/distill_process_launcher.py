"""Hydra launcher `process`: every cell of a sweep is an ordinary `distill train` process of its own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from distill import cells as processes
from distill.cells import Cell, Forks, run_cells, say
from distill.config import plain
from distill.forked import modules_of
from distill.slots import environments

OWN = ("hydra.mode", "hydra.run.", "hydra.sweep.", "hydra.sweeper", "hydra/sweeper", "hydra.launcher", "hydra/launcher")
"""What steers the sweep itself, and so is not passed on to its cells."""


class CellFailed(CompactHydraException):
    """A cell ended without a result; Hydra prints the sentence and no traceback."""


@dataclass
class ProcessLauncherConf:
    """Config of the launcher."""

    _target_: str = "hydra_plugins.distill_process_launcher.ProcessLauncher"
    # cells at a time, among which the GPUs are dealt out; or one CUDA_VISIBLE_DEVICES value for each: ['0,1','2,3'];
    # null: one cell per visible GPU, or one at a time where there is none
    slots: Any = None


class ProcessLauncher(Launcher):
    """Runs cells side by side, one in each slot; a cell that fails does not stop the others and is named at the end.

    Args:
        slots: number of cells at a time, or a list of ``CUDA_VISIBLE_DEVICES`` values, one for each; None for one
            cell per visible GPU.
    """

    def __init__(self, slots: Any = None) -> None:
        self.slots = slots
        self.forks = Forks()  # of a search too, which launches few cells at a time and often

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composes the cells.

        Raises:
            CompactHydraException: when the program is not ``distill``, whose command line the cells are given; or
                when ``slots`` is neither a positive number nor a list.
        """
        module = getattr(task_function, "__module__", "") or ""
        if module.partition(".")[0] != "distill":
            raise CompactHydraException(f"hydra/launcher=process starts distill train, not {module}: use another one")
        try:
            self.environments = environments(self.slots)
        except ValueError as error:
            raise CompactHydraException(str(error)) from error
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run one cell for each list of overrides and return what became of them, in order."""
        setup_globals()
        jobs = [self._job(initial_job_idx + i, list(typed)) for i, typed in enumerate(job_overrides)]
        if initial_job_idx == 0:
            say(f"sweep in {self.config.hydra.sweep.dir}, {len(self.environments)} cell(s) at a time")
        ended = run_cells([cell for cell, _ in jobs], self.environments, forks=self.forks)
        for (_, outcome), found in zip(jobs, ended, strict=True):
            outcome.status = JobStatus.FAILED if found.failure else JobStatus.COMPLETED
            outcome.return_value = CellFailed(found.failure) if found.failure else found.summary.get("objective")
        return [outcome for _, outcome in jobs]

    def _job(self, number: int, overrides: list[str]) -> tuple[Cell, JobReturn]:
        config, sweep, folder = composed(self.hydra_context, self.config, number, overrides)
        typed = {o.lower() for o in self.config.hydra.overrides.task}
        passed = [*where(self.config), *overrides, *forwarded(self.config.hydra.overrides.hydra)]
        cell = Cell(
            number,
            words=" ".join(o for o in filter_overrides(overrides) if told(o) and o.lower() not in typed)
            or "(as typed)",
            command=[*processes.PROGRAM, "train", *passed, f"hydra.run.dir={quoted(str(folder))}", "hydra.mode=RUN"],
            folder=folder,
            # runs of one sweep stand together in Weights & Biases, unless the user grouped them
            environment={"WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", sweep.name)},
            trains=not str(OmegaConf.select(config, "check")).endswith("only"),
        )
        with open_dict(config):
            del config["hydra"]
        cell.modules = modules_of(plain(config))
        return cell, JobReturn(overrides=overrides, cfg=config, working_dir=str(folder), task_name="distill")


def told(override: str) -> bool:
    """Whether an override is of the user's, or of a value that is swept."""
    return not override.startswith("trial=")


def composed(
    context: HydraContext, config: DictConfig, number: int, overrides: list[str]
) -> tuple[DictConfig, Path, Path]:
    """Return the config of a cell, the folder of its sweep and its own."""
    cell = context.config_loader.load_sweep_config(config, overrides)
    with open_dict(cell):
        cell.hydra.job.id = cell.hydra.job.num = number
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cell)  # ${hydra:job.num} in the folder's name reads it
    try:
        sweep = Path(str(cell.hydra.sweep.dir))
        return cell, sweep, sweep / str(cell.hydra.sweep.subdir)
    finally:
        HydraConfig.instance().cfg = before


def where(config: DictConfig) -> list[str]:
    """Return the options that lead a cell to the same configuration files, ``--config-dir`` of the user among them."""
    options = ["--config-name", str(config.hydra.job.config_name)]
    flags = {"main": "--config-path", "command-line": "--config-dir"}
    for source in config.hydra.runtime.config_sources:
        if source.provider in flags and source.schema == "file":
            options += [flags[source.provider], str(source.path)]
    return options


def forwarded(overrides: Sequence[str]) -> list[str]:
    """Return the user's ``hydra.*`` overrides that concern a cell, such as ``hydra.searchpath``."""
    return [text for text in overrides if not text.lstrip("+~").startswith(OWN)]


def quoted(text: str) -> str:
    """Return text as a value in Hydra's grammar, whatever characters it has."""
    return "'" + text.replace("'", "\\'") + "'"


ConfigStore.instance().store(group="hydra/launcher", name="process", node=ProcessLauncherConf, provider="distill")
