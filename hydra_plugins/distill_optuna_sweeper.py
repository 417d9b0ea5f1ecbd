"""Hydra sweeper `optuna`: a search that is kept on disk, goes on where it was killed, and prunes hopeless trials."""

from __future__ import annotations

import fcntl
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from distill.cells import say
from distill.config import ConfigError, build, fingerprint, plain
from distill.records import read_json, write_json, write_text
from distill.results import SUMMARY
from distill.tables.front import SEARCH
from hydra_plugins.distill_process_launcher import quoted

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

BEST = "optimization_results.yaml"
FOLDER = "folder"
"""Attribute of a study: where its trials lie, so that it goes on there."""


class OptunaSweeper(Sweeper):
    """Draws settings with a sampler of optuna and runs them with whichever launcher, ``n_jobs`` at a time.

    Args:
        objectives: names of ``distill.search.settings.OBJECTIVES``.
        directions: ``maximize`` or ``minimize``, one for each.
        study_name: of the study; what makes two searches different is added as a fingerprint.
        storage: ``sqlite:///FILE``, ``journal:///FILE`` or a database; None for a file in the sweep's folder.
        n_trials: number of trials that shall have finished, counted over all calls of the search.
        n_jobs: trials that the launcher is given at a time.
        sampler: node of a class of ``optuna.samplers``; its ``seed`` is mixed with the number of the trial.
        pruner: node of a class of ``optuna.pruners``, or None.
        params: the space, by key.
    """

    def __init__(
        self, objectives: Sequence[str], directions: Sequence[str], study_name: str, storage: str | None, n_trials: int,
        n_jobs: int, sampler: Mapping[str, Any], pruner: Mapping[str, Any] | None, params: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.objectives, self.directions = list(objectives), list(directions)
        self.study_name, self.storage = study_name, storage
        self.n_trials, self.n_jobs, self.params = n_trials, n_jobs, dict(params)
        self.sampler, self.pruner = sampler, pruner

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what composes the cells; the launcher is made once the study has said where its trials lie."""
        self.context, self.task, self.master = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> None:
        """Go on with the study until enough trials have finished, then say which was best.

        Args:
            arguments: overrides as typed, those of the space among them.

        Raises:
            CompactHydraException: for a setting that is wrong, or when no trial succeeded.
        """
        try:
            self._sweep(arguments)
        except (ConfigError, ValueError) as error:
            raise CompactHydraException(str(error)) from error

    def _sweep(self, arguments: list[str]) -> None:
        from distill.search.settings import mistakes
        from distill.search.space import space

        parser = OverridesParser.create(config_loader=self.context.config_loader)
        texts = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        self.space, self.fixed = space(parser.parse_overrides(texts))
        if not self.space:
            raise ValueError("hydra.sweeper.params={}: nothing to search; give a key an interval, range or choice")
        known = plain(OmegaConf.masked_copy(self.master, [str(key) for key in self.master if key != "hydra"]))
        wrong = list(mistakes(plain(self.master.hydra.sweeper), known))
        if wrong:
            raise ConfigError(wrong)
        self._sampler(0)
        with _quiet_optuna(), self._study(known) as study:
            self.cells = Plugins.instance().instantiate_launcher(
                config=self.master, hydra_context=self.context, task_function=self.task
            )
            self._search(study)
            self._conclude(study)

    @contextmanager
    def _study(self, known: Mapping[str, Any]) -> Iterator[Study]:
        """Open the study of this search, held against a second process; from here on the sweep's folder is its own."""
        import optuna
        from optuna.study import StudyDirection

        from distill.search.study import PRUNER, absolute, opened
        from distill.tables.found import BOOKKEEPING

        folder = Path(str(self.master.hydra.sweep.dir)).absolute()
        self.address = absolute(self.storage or f"sqlite:///{folder}/study.db")
        decides = {key: value for key, value in known.items() if key not in BOOKKEEPING}
        what = [decides, {k: str(v) for k, v in self.space.items()}, self.objectives, self.directions]
        study = optuna.create_study(
            study_name=f"{self.study_name}-{fingerprint(what)}",
            storage=opened(self.address),
            load_if_exists=True,
            directions=[StudyDirection[direction.upper()] for direction in self.directions],
            pruner=build(self.pruner, "hydra.sweeper.pruner") if self.pruner else None,
        )
        before = Path(study.user_attrs.get(FOLDER, folder))
        if before != folder and before.is_dir():
            folder = before
            with read_write(self.master), open_dict(self.master):
                self.master.hydra.sweep.dir = str(folder)
                self.master.hydra.overrides.hydra.append(f"hydra.sweep.dir={quoted(str(folder))}")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ValueError(f"{folder}: this search runs already; wait, or end the other process") from error
            study.set_user_attr(FOLDER, str(folder))
            study.set_user_attr(PRUNER, self.pruner)
            self.folder = folder
            write_json(folder / SEARCH, self._described(study))
            OmegaConf.save(self.master, folder / "multirun.yaml")
            yield study

    def _described(self, study: Study) -> dict[str, Any]:
        return {
            "study": study.study_name, "storage": self.address, "objectives": self.objectives,
            "directions": self.directions, "space": {key: str(value) for key, value in self.space.items()},
        }  # fmt: skip

    def _search(self, study: Study) -> None:
        done, left = len(_finished(study)), _in_state(study, "RUNNING")
        say(f"study {study.study_name} in {self.address}: {done} of {self.n_trials} trials finished, in {self.folder}")
        if left:
            say(f"going on with trial(s) {', '.join(str(trial.number) for trial in left)}, which were interrupted")
        for trial in list(left):
            if trial.params.keys() != self.space.keys():  # killed while it was drawn
                study.tell(trial.number, state=_state("FAIL"))
                left.remove(trial)
        for _, batch in itertools.groupby(enumerate(left), lambda pair: pair[1].number - pair[0]):
            self._run(study, [(trial.number, trial.params) for _, trial in batch])
        while (missing := self.n_trials - len(_finished(study))) > 0:
            self._run(study, [self._ask(study) for _ in range(min(self.n_jobs, missing))])

    def _ask(self, study: Study) -> tuple[int, dict[str, Any]]:
        # drawn from the number of the trial and what is known, so a search that goes on draws what it would have drawn
        study.sampler = self._sampler(len(study.get_trials(deepcopy=False)))
        trial = study.ask(self.space)
        return trial.number, trial.params

    def _sampler(self, number: int) -> Any:
        node = dict(self.sampler)
        if "seed" in node:
            node["seed"] = int(fingerprint([node["seed"], number])[:8], 16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna 4 calls much of what is in daily use experimental
            return build(node, "hydra.sweeper.sampler")

    def _run(self, study: Study, batch: Sequence[tuple[int, dict[str, Any]]]) -> None:
        from distill.search.space import words

        cells = []
        for number, params in batch:
            trial = f"{{storage:{quoted(self.address)},study:{quoted(study.study_name)},number:{number}}}"
            cells.append([*self.fixed, *words(params), f"trial={trial}"])
        returned = self.cells.launch(cells, initial_job_idx=batch[0][0])
        for (number, params), job in zip(batch, returned, strict=True):
            state, values, why = self._outcome(job)
            study.tell(number, values=values, state=_state(state))
            shown = ", ".join(f"{n} {v:.6g}" for n, v in zip(self.objectives, values or [], strict=False))
            say(f"trial {number}: {shown or why}: {' '.join(words(params))}")

    def _outcome(self, job: JobReturn) -> tuple[str, list[float] | None, str]:
        from distill.search.settings import value

        if job.status != JobStatus.COMPLETED:
            error = job._return_value  # the property prints a traceback
            if getattr(error, "interrupted", False):
                raise CompactHydraException(f"{error}; the same command goes on from there") from error
            return "FAIL", None, f"failed: {error}"
        folder = job.working_dir if job.hydra_cfg is None else job.hydra_cfg.hydra.runtime.output_dir
        summary = read_json(Path(str(folder)) / SUMMARY)
        if summary is None:
            return "FAIL", None, f"failed: {folder} has no {SUMMARY}"
        if summary.get("status") == "pruned":
            return "PRUNED", None, str(summary["reason"])
        return "COMPLETE", [value(summary, name) for name in self.objectives], ""

    def _conclude(self, study: Study) -> None:
        complete = _in_state(study, "COMPLETE")
        if not complete:
            raise CompactHydraException(f"no trial of {study.study_name} completed; see the reasons above")
        best = study.best_trials if len(self.objectives) > 1 else [study.best_trial]
        found: dict[str, Any] = {"name": "optuna", "study": study.study_name}
        if len(self.objectives) > 1:
            found["solutions"] = [{"params": t.params, "values": t.values} for t in best]
        else:
            found |= {"best_params": best[0].params, "best_value": best[0].value}
        write_text(self.folder / BEST, OmegaConf.to_yaml(OmegaConf.create(found)))
        counts = {word: len(_in_state(study, word.upper())) for word in ("complete", "pruned", "fail")}
        say(f"{study.study_name}: {', '.join(f'{n} {word}' for word, n in counts.items() if n)}")
        for trial in best:
            numbers = ", ".join(f"{n} {v:.6g}" for n, v in zip(self.objectives, trial.values, strict=True))
            say(f"{'on the front' if len(self.objectives) > 1 else 'best'}: trial {trial.number}: {numbers}")
        say(f"see: distill table {self.folder}")


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _in_state(study: Study, *names: str) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=tuple(map(_state, names)))


def _finished(study: Study) -> list[FrozenTrial]:
    return _in_state(study, "COMPLETE", "PRUNED", "FAIL")


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep optuna's own lines about each trial out of the output; ours name the cell."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
