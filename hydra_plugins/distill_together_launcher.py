"""Hydra launcher `together`: the students of all cells train in this process, on one pass of each teacher."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from distill.config import Config, plain
from hydra_plugins.distill_process_launcher import CellFailed, composed


@dataclass
class TogetherLauncherConf:
    """Config of the launcher."""

    _target_: str = "hydra_plugins.distill_together_launcher.TogetherLauncher"


class TogetherLauncher(Launcher):
    """Trains the students of all cells in turns; cells with the same teacher and data ask it once for each batch."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composes the cells.

        Raises:
            CompactHydraException: when the program is not ``distill``.
        """
        module = getattr(task_function, "__module__", "") or ""
        if module.partition(".")[0] != "distill":
            raise CompactHydraException(f"hydra/launcher=together trains with distill, not {module}: use another one")
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all cells at once and return what became of them, in order.

        Raises:
            CellInterrupted: when SIGTERM ended them, after a checkpoint of each.
        """
        from distill.commands.train import CellInterrupted, explain, failed, keep, keep_pruned
        from distill.comparison import run_all
        from distill.fit import Interrupted, Pruned

        setup_globals()
        jobs: list[tuple[JobReturn, list[str], Config]] = []
        for number, overrides in enumerate(map(list, job_overrides), initial_job_idx):
            cell, sweep, folder = composed(self.hydra_context, self.config, number, overrides)
            os.environ.setdefault("WANDB_RUN_GROUP", sweep.name)
            with open_dict(cell):
                del cell["hydra"]
                cell.together = True
            job = JobReturn(overrides=overrides, cfg=cell, working_dir=str(folder), task_name="distill")
            jobs.append((job, overrides, plain(cell)))
        try:
            results = run_all([config for *_, config in jobs], [typed for _, typed, _ in jobs])
        except Interrupted as error:
            raise CellInterrupted(explain(error)[1]) from error
        for (job, typed, config), result in zip(jobs, results, strict=True):
            if isinstance(result, Pruned):
                keep_pruned(result, typed, Path(str(job.working_dir)))
                job.status = JobStatus.COMPLETED
                job.return_value = math.nan
            elif isinstance(result, BaseException):
                failed.append(f"{' '.join(typed)}: {explain(result)[1]}")
                job.status = JobStatus.FAILED
                job.return_value = CellFailed(failed[-1])
            else:
                print(f"\n{' '.join(typed)}")
                keep(result, Path(str(job.working_dir)), config["quiet"])
                job.status = JobStatus.COMPLETED
                job.return_value = result.objective
        return [job for job, *_ in jobs]


ConfigStore.instance().store(group="hydra/launcher", name="together", node=TogetherLauncherConf, provider="distill")
