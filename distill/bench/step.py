"""bench step: the framework's step, with everything it does beside it, against a bare loop of the same work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from distill.bench.loops import Timed, bare, framework
from distill.bench.measured import Measured, alternate
from distill.bench.work import CIFAR, COMMON, limited, prepare, sized

TINY = [*COMMON, "dataset.image_size=[8,8]", "dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.25]"]
TARGET = "_target_=distill.bench.work.perceptron"
PERCEPTRONS = [
    f"student.{TARGET}", "+student.hidden=256", "~student.width", "~student.channels",
    f"teacher.digits_cnn.network.{TARGET}", "+teacher.digits_cnn.network.hidden=256",
    "~teacher.digits_cnn.network.width", "~teacher.digits_cnn.network.channels",
]  # fmt: skip
CASES = {
    "1 ms": (782, 1.15, [*TINY, *PERCEPTRONS, "dataset.batch_size=64"]),
    "5 ms": (200, 1.05, [*TINY, "student=digits_tiny", "teacher=[digits_cnn]", "teacher.digits_cnn.network.width=8",
                         "dataset.batch_size=16"]),
    "resnet8x4": (4, 1.01, [*CIFAR, "student=resnet8x4", "teacher=[resnet32x4]", "dataset.batch_size=64"]),
}  # fmt: skip
"""Steps of an epoch, target and config of each case."""


def measure(options: argparse.Namespace) -> Measured:
    """Time an epoch of the framework against the same work written by hand, for a short, a middling and a long step.

    With overrides it is one case: resnet56 teaching resnet20 on synthetic images, as the overrides change it.
    """
    from distill.config import compose

    prepare(options)
    cases = CASES
    if options.overrides:
        base = [*CIFAR, "student=resnet20", "teacher=[resnet56]", "dataset.batch_size=64", *options.overrides]
        cases = {"step": (20, 1.0, base)}
    sides: dict[str, Callable[[], float]] = {}
    ratios: list[tuple[str, str, str, float | None]] = []
    for name, (count, target, overrides) in cases.items():
        steps = options.steps or count
        cfg = limited(sized(compose(overrides), steps), steps)
        sides[f"{name}: bare loop"] = _step(bare, cfg, steps)
        sides[f"{name}: distill"] = _step(framework, cfg)
        ratios.append((f"{name}: ratio", f"{name}: distill", f"{name}: bare loop", target))
    return Measured("step: CE + KD, logging, metrics.csv and checkpoint on", "ms a step",
                    alternate(sides, options.rounds), ratios)  # fmt: skip


def _step(train: Callable[..., Timed], *arguments: Any) -> Callable[[], float]:
    """Return a side whose measurement is milliseconds a step."""

    def side() -> float:
        timed = train(*arguments)
        return 1e3 * timed.seconds / timed.steps

    return side
