"""bench students: eight students in one process on one pass of the teacher, against eight trainings one by one."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from distill.bench.measured import Measured, alternate
from distill.bench.work import PAIR, RECIPE, in_an_epoch, limited, prepare, series, sized

STUDENTS = 8
ALONE, TOGETHER = "one by one", "together"


def measure(options: argparse.Namespace) -> Measured:
    """Time eight seeds of a student on one data stream; milliseconds a step of all eight, in an epoch of 782 steps.

    Inside is all that a training does, the start of the process left out; there is one image to test on.
    """
    from distill.config import compose

    prepare(options)
    steps = options.steps or 4
    common = [*PAIR, *RECIPE, "dataset._target_=distill.bench.work.TrainOnly", "data_seed=0"]
    cfg = sized(compose([*common, *options.overrides]), 1 + steps)
    losses: dict[str, list[float]] = {}

    def side(name: str) -> float:
        def train(count: int) -> float:
            configs: list[dict[str, Any]] = [{**limited(cfg, count), "seed": seed} for seed in range(STUDENTS)]
            seconds, losses[name] = series(configs, together=name == TOGETHER)
            return seconds

        return in_an_epoch(train, steps)

    rounds = alternate({name: partial(side, name) for name in (ALONE, TOGETHER)}, options.rounds)
    apart = max(abs(one - other) for one, other in zip(losses[ALONE], losses[TOGETHER], strict=True))
    return Measured(
        f"students: {STUDENTS} seeds, CE + KD, {steps} steps timed", "ms a step of all", rounds,
        [("throughput, at least", ALONE, TOGETHER, 1.8)], [f"largest difference of a student's loss: {apart:g}"],
    )  # fmt: skip
