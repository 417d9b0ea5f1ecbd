"""run(cfg): a whole comparison, from one config to a result: teachers, student alone, student distilled, each seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from distill import check
from distill.config import Config, ConfigError, merged, resolved
from distill.fit import LABELS, STUDENT, fit, folder_of, network_name, taught
from distill.records import Record
from distill.results import Result

CE = {"_target_": LABELS, "weight": 1.0, "label_smoothing": 0.0}
"""What a network is trained with when nobody teaches it."""
DOT = "distill.optimizers.dot.DOT"


def run(cfg: Mapping[str, Any], overrides: Sequence[str] = (), checked: bool = False) -> Result:
    """Train what a config describes and return the comparison; what is complete already is not trained again.

    Args:
        cfg: config as :func:`distill.compose` returns it; interpolations may still be in it.
        overrides: what the user typed, for the records.
        checked: skip the static check and the dry run, because the caller has just done them.

    Raises:
        ConfigError: every mistake in the config, one sentence each, before any training.
        distill.fit.TrainingFailed: when a training in a process of its own failed.
        distill.fit.Pruned: when it is a trial of a search, whose pruner gave it up.
        distill.modules.base.DivergenceError: when a loss became NaN or infinite.
    """
    if not checked:
        problems = check.problems(cfg)
        if problems:
            raise ConfigError(problems)
    result = run_all([cfg], [overrides])[0]
    if isinstance(result, BaseException):
        raise result
    return result


def run_all(configs: Sequence[Mapping[str, Any]], overrides: Sequence[Sequence[str]]) -> list[Result | BaseException]:
    """Do several comparisons; the students of those with ``together`` train in one process. Checks nothing.

    Args:
        configs: one a comparison.
        overrides: what the user typed for each.

    Returns:
        The result of each, or what went wrong in it.
    """
    plans: list[_Plan | BaseException] = [
        _caught(_Plan, cfg, list(typed)) for cfg, typed in zip(configs, overrides, strict=True)
    ]
    made = [plan for plan in plans if isinstance(plan, _Plan)]
    jobs = {str(folder_of(job)): (job, title, plan) for plan in made for job, title in plan.jobs}
    records: dict[str, Record | BaseException] = {}
    together = {folder: (job, title) for folder, (job, title, plan) in jobs.items() if plan.together}
    if together:
        from distill.together import fit_together

        found = fit_together(list(together.values()), made[0].overrides)
        records |= dict(zip(together, found, strict=True))
    for folder, (job, title, plan) in jobs.items():
        if folder not in together:
            records[folder] = _caught(fit, job, plan.overrides, title)
            if isinstance(records[folder], BaseException) and len(configs) == 1:
                break
    return [_caught(plan.result, records) if isinstance(plan, _Plan) else plan for plan in plans]


T = TypeVar("T")


def _caught(make: Callable[..., T], *arguments: Any) -> T | BaseException:
    try:
        return make(*arguments)
    except Exception as error:
        return error


class _Plan:
    """One comparison: its teachers, trained already where the config says so, and the trainings that it takes."""

    def __init__(self, cfg: Mapping[str, Any], overrides: list[str]) -> None:
        self.overrides, self.together = overrides, bool(cfg["together"])
        names = list(cfg["teacher"])
        teachers = {name: _teacher(cfg, name, overrides) for name in names}
        self.teachers = {name: record for name, (_, record) in teachers.items() if record is not None}
        nodes = {name: {**cfg["teacher"][name], "checkpoint": path} for name, (path, _) in teachers.items()}
        seeds = [cfg["seed"] + i for i in range(cfg["seeds"])]
        if self.together and cfg["data_seed"] is None:
            cfg = {**cfg, "data_seed": cfg["seed"]}
        trial, cfg = cfg["trial"], {**cfg, "trial": None}
        self.arms: dict[str, list[tuple[Config, str]]] = {}
        own = "distilled" if taught(cfg) else "alone"  # the arm that trains as the config says
        if cfg["alone"] and own != "alone":
            self.arms["alone"] = [(alone(cfg, s), _title("student alone", s, seeds)) for s in seeds]
        cache = cfg["cache"] if names else {}
        configs = [resolved({**cfg, "teacher": nodes, "cache": cache, "seed": s}) for s in seeds]
        self.arms[own] = [(c, _title(f"student {own}", s, seeds)) for c, s in zip(configs, seeds, strict=True)]
        # only the first seed of what is searched reports and is pruned: once it got through, the others are wanted
        self.arms[own][0][0]["trial"] = trial

    @property
    def jobs(self) -> list[tuple[Config, str]]:
        """Every training of a student, with its title."""
        return [job for jobs in self.arms.values() for job in jobs]

    def result(self, records: Mapping[str, Record | BaseException]) -> Result:
        """Return the comparison, given the record of each run folder, or raise what there is in the place of one."""
        folders = {arm: [str(folder_of(cfg)) for cfg, _ in jobs] for arm, jobs in self.arms.items()}
        for error in records.values():
            if isinstance(error, BaseException) and any(records.get(f) is error for f in sum(folders.values(), [])):
                raise error
        complete = {folder: record for folder, record in records.items() if not isinstance(record, BaseException)}
        return Result(
            teachers=self.teachers,
            arms={arm: [complete[folder] for folder in found] for arm, found in folders.items()},
            folders=folders,
            overrides=self.overrides,
        )


def with_trained_teachers(cfg: Mapping[str, Any], overrides: list[str]) -> tuple[Config, dict[str, Record]]:
    """Return a config in which every teacher has a checkpoint, and the record of each that is trained by us."""
    teachers = {name: _teacher(cfg, name, overrides) for name in cfg["teacher"]}
    nodes = {name: {**cfg["teacher"][name], "checkpoint": path} for name, (path, _) in teachers.items()}
    return {**cfg, "teacher": nodes}, {name: record for name, (_, record) in teachers.items() if record is not None}


def _title(what: str, seed: int, seeds: Sequence[int]) -> str:
    return f"{what}, seed {seed}" if len(seeds) > 1 else what


def _untaught(optimizer: Config) -> Config:
    """Return an optimizer without what it does for distillation alone; DOT is SGD where no term reads a teacher."""
    if optimizer.get("_target_") != DOT:
        return optimizer
    kept = {k: v for k, v in optimizer.items() if k != "delta"}
    return {**kept, "_target_": "torch.optim.SGD", "fused": True}


def alone(cfg: Mapping[str, Any], seed: int) -> Config:
    """Return the resolved config of the same student trained with cross-entropy and no teacher.

    One whose classes are a teacher's text vectors has a classifier of its own there.
    """
    plain = {"teacher": {}, "cache": {}, "control": "none", "loss": {"ce": CE}, "unseen_classes": None}
    found = resolved({**cfg, **plain, "optimizer": _untaught(cfg["optimizer"]), "seed": seed})
    if "anchored" in found["student"]:
        found["student"] = {**found["student"], "anchored": False, "anchor": None}
    return found


def teacher_config(cfg: Mapping[str, Any], name: str) -> Config:
    """Return the resolved config that trains a teacher: its network as student, its ``training`` laid on top.

    By cross-entropy, unless ``training`` has terms of its own, which are then all there are.
    """
    node = cfg["teacher"][name]
    loss = {} if "loss" in node["training"] else {"ce": CE}
    plain = {
        "teacher": {}, "cache": {}, "control": "none", "loss": loss, "ema_decay": None, "compile": False,
        "data_seed": None, "trial": None, "overlays": 0, "unseen_classes": None,
        "optimizer": _untaught(cfg["optimizer"]),
    }  # fmt: skip
    return resolved(merged({**cfg, "student": node["network"], **plain}, node["training"]))


def _teacher(cfg: Mapping[str, Any], name: str, overrides: list[str]) -> tuple[str, Record | None]:
    """Return the checkpoint of a teacher and its record, training it first where the config says so."""
    checkpoint = cfg["teacher"][name]["checkpoint"]
    if checkpoint != "train":
        return str(checkpoint), None
    own = teacher_config(cfg, name)
    record = fit(own, overrides, f"teacher {network_name(own['student'])}")
    return str(Path(folder_of(own)) / STUDENT), record
