"""run(cfg): a whole comparison, from one config to a result: teachers, student alone, student distilled, each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill import check
from distill.config import Config, ConfigError, merged, resolved
from distill.fit import STUDENT, fit, folder_of, network_name
from distill.records import Record
from distill.results import Result

CE = {"_target_": "distill.losses.ce.CE", "weight": 1.0, "label_smoothing": 0.0}
"""What a network is trained with when nobody teaches it."""


def run(cfg: Mapping[str, Any], overrides: Sequence[str] = (), checked: bool = False) -> Result:
    """Train what a config describes and return the comparison; what is complete already is not trained again.

    Args:
        cfg: config as :func:`distill.compose` returns it; interpolations may still be in it.
        overrides: what the user typed, for the records.
        checked: skip the static check and the dry run, because the caller has just done them.

    Raises:
        ConfigError: every mistake in the config, one sentence each, before any training.
        distill.fit.TrainingFailed: when a training in a process of its own failed.
        distill.modules.base.DivergenceError: when a loss became NaN or infinite.
    """
    if not checked:
        problems = check.problems(cfg)
        if problems:
            raise ConfigError(problems)
    typed = list(overrides)
    names = list(cfg["teacher"])
    with_teachers, records = with_trained_teachers(cfg, typed)
    seeds = [cfg["seed"] + i for i in range(cfg["seeds"])]
    arms: dict[str, list[Record]] = {}
    if cfg["alone"] or not names:
        arms["alone"] = [fit(alone(cfg, s), typed, _title("student alone", s, seeds)) for s in seeds]
    if names:
        arms["distilled"] = [
            fit(resolved({**with_teachers, "seed": s}), typed, _title("student distilled", s, seeds)) for s in seeds
        ]
    return Result(
        teachers=records,
        arms=arms,
        folders={arm: [str(folder_of(r["config"])) for r in found] for arm, found in arms.items()},
        overrides=typed,
    )


def with_trained_teachers(cfg: Mapping[str, Any], overrides: list[str]) -> tuple[Config, dict[str, Record]]:
    """Return a config in which every teacher has a checkpoint, and the record of each that is trained by us."""
    teachers = {name: _teacher(cfg, name, overrides) for name in cfg["teacher"]}
    nodes = {name: {**cfg["teacher"][name], "checkpoint": path} for name, (path, _) in teachers.items()}
    return {**cfg, "teacher": nodes}, {name: record for name, (_, record) in teachers.items() if record is not None}


def _title(what: str, seed: int, seeds: Sequence[int]) -> str:
    return f"{what}, seed {seed}" if len(seeds) > 1 else what


def alone(cfg: Mapping[str, Any], seed: int) -> Config:
    """Return the resolved config of the same student trained with cross-entropy and no teacher."""
    return resolved({**cfg, "teacher": {}, "cache": {}, "loss": {"ce": CE}, "seed": seed})


def teacher_config(cfg: Mapping[str, Any], name: str) -> Config:
    """Return the resolved config that trains a teacher: its network as student, its ``training`` laid on top."""
    node = cfg["teacher"][name]
    plain = {"teacher": {}, "cache": {}, "loss": {"ce": CE}, "ema_decay": None, "compile": False}
    return resolved(merged({**cfg, "student": node["network"], **plain}, node["training"]))


def _teacher(cfg: Mapping[str, Any], name: str, overrides: list[str]) -> tuple[str, Record | None]:
    """Return the checkpoint of a teacher and its record, training it first where the config says so."""
    checkpoint = cfg["teacher"][name]["checkpoint"]
    if checkpoint != "train":
        return str(checkpoint), None
    own = teacher_config(cfg, name)
    record = fit(own, overrides, f"teacher {network_name(own['student'])}")
    return str(Path(folder_of(own)) / STUDENT), record
