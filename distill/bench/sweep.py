"""bench sweep: eight temperatures with one teacher cache, filling it included, against eight trainings without."""

from __future__ import annotations

import argparse
import tempfile

from distill.bench.measured import Measured, alternate
from distill.bench.work import PAIR, RECIPE, in_an_epoch, limited, prepare, series, sized

TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
ONLINE, CACHED = "online", "one cache"


def measure(options: argparse.Namespace) -> Measured:
    """Time a sweep of temperatures on one data stream; milliseconds a step of all arms, in an epoch of 782 steps.

    The cache is empty when a sweep begins: its first arm asks the teacher and fills it, the others look up.
    """
    from distill.config import compose

    prepare(options)
    steps = options.steps or 4
    common = [*PAIR, *RECIPE, "dataset._target_=distill.bench.work.TrainOnly", "data_seed=0", *options.overrides]
    losses: dict[str, list[float]] = {}

    def side(name: str, *own: str) -> float:
        composed = (compose([*common, f"scheduler.temperature.value={value}", *own]) for value in TEMPERATURES)
        arms = [sized(cfg, 1 + steps) for cfg in composed]

        def train(count: int) -> float:
            with tempfile.TemporaryDirectory() as folder:
                if own:
                    for cfg in arms:
                        cfg["cache"]["folder"] = folder
                seconds, losses[name] = series([limited(cfg, count) for cfg in arms], together=False)
            return seconds

        return in_an_epoch(train, steps)

    rounds = alternate({ONLINE: lambda: side(ONLINE), CACHED: lambda: side(CACHED, "cache=on")}, options.rounds)
    apart = max(abs(one - other) for one, other in zip(losses[ONLINE], losses[CACHED], strict=True))
    return Measured(
        f"sweep: {len(TEMPERATURES)} temperatures, CE + KD, {steps} steps timed", "ms a step of all", rounds,
        [("throughput, at least", ONLINE, CACHED, 1.8)],
        [f"largest difference of an arm's loss, of answers in float16: {apart:g}"],
    )  # fmt: skip
