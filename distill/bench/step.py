"""bench step: the framework's step, with everything it does beside it, against a bare loop of the same work."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from distill.bench.loops import bare, framework
from distill.bench.measured import Measured, alternate
from distill.bench.work import CIFAR, COMMON, in_an_epoch, limited, prepare, sized

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
                         "dataset.batch_size=48"]),
    "resnet8x4": (6, 1.01, [*CIFAR, "student=resnet8x4", "teacher=[resnet32x4]", "dataset.batch_size=64"]),
}  # fmt: skip
"""Steps of an epoch, target and config of each case."""


def measure(options: argparse.Namespace) -> Measured:
    """Time an epoch of the framework against the same work written by hand, for a short, a middling and a long step.

    What an epoch costs once, such as a checkpoint and the gradient of each term, counts as in one of 782 steps.

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
        cfg = sized(compose(overrides), 1 + steps)
        sides[f"{name}: bare loop"] = partial(in_an_epoch, partial(_bare, cfg), steps)
        sides[f"{name}: distill"] = partial(in_an_epoch, partial(_framework, cfg), steps)
        ratios.append((f"{name}: ratio", f"{name}: distill", f"{name}: bare loop", target))
    return Measured("step: CE + KD, logging, metrics.csv and checkpoint on", "ms a step",
                    alternate(sides, options.rounds), ratios)  # fmt: skip


def _bare(cfg: dict[str, Any], steps: int) -> float:
    return bare(limited(cfg, steps), steps).seconds


def _framework(cfg: dict[str, Any], steps: int) -> float:
    return framework(limited(cfg, steps)).seconds
