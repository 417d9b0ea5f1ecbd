"""bench cached: an epoch of KD with a full teacher cache against an epoch of plain cross-entropy, in the same loop."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from distill.bench.loops import clock, framework
from distill.bench.measured import Measured, alternate
from distill.bench.work import CIFAR, RECIPE, in_an_epoch, limited, prepare

STUDENTS = {"narrow": ("resnet8", 60), "wide": ("resnet8x4", 8)}
"""Students, and how many of their steps are timed."""


def measure(options: argparse.Namespace) -> Measured:
    """Time what the cached answers of a teacher cost beside the student's own work, for a narrow and a wide student.

    Inside are loading, augmentation, forward and backward passes, optimizer, logging and checkpoint; the cache is full
    when it is timed.
    """
    from distill.config import compose

    prepare(options)
    sides: dict[str, Callable[[], float]] = {}
    ratios: list[tuple[str, str, str, float | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (student, count) in STUDENTS.items():
            steps = options.steps or count
            common = [*CIFAR, *RECIPE, f"student={student}", *options.overrides]
            plain = [word for word in common if not word.startswith(("loss.kd", "loss.ce"))]
            kinds = {
                "CE": [*plain, "teacher=[]", "loss=[ce]", "scheduler=[]"],
                "cached KD": [*common, "teacher=[resnet20]", "teacher.resnet20.checkpoint=built", "cache=on",
                              f"cache.folder={folder}/{name}"],
            }  # fmt: skip
            for kind, overrides in kinds.items():
                cfg = compose(overrides)
                cfg["dataset"]["samples"] = (1 + steps) * cfg["dataset"]["batch_size"]
                sides[f"{name}: {kind}"] = partial(_step, cfg, steps)
            ratios.append((f"{name}: cached KD / CE", f"{name}: cached KD", f"{name}: CE", 1.05))
        rounds = alternate(sides, options.rounds)
    return Measured(
        "cached: an epoch of KD whose teacher is kept, and one without a teacher", "ms a step", rounds, ratios
    )


def _step(cfg: dict[str, Any], steps: int) -> float:
    return in_an_epoch(lambda count: framework(limited(cfg, count), clock).seconds, steps)
