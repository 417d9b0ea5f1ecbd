"""Schedule: a scalar as a function of training progress; usable for a temperature, a weight, any number of a term."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Attributes:
        fraction: 0 in the first epoch (or step), 1 in the last.
        epoch: current epoch, counted from 1 as papers do.
        epochs: number of epochs of the run.
    """

    fraction: float
    epoch: int = 1
    epochs: int = 1


class Schedule(ABC):
    """Pure function of :class:`Progress`; holds no state, so a resumed run needs nothing restored."""

    @abstractmethod
    def __call__(self, progress: Progress) -> float:
        """Return the value at ``progress``."""


def trajectory(value: float | Schedule, epochs: int = 101) -> list[float]:
    """Return the values that a number or a schedule takes over a run of ``epochs`` epochs."""
    if not isinstance(value, Schedule):
        return [float(value)]
    return [value(Progress(e / max(epochs - 1, 1), e + 1, epochs)) for e in range(epochs)]


def require_span(begin: float, until: float) -> None:
    """Refuse a ramp whose ends are out of order or outside the run.

    Raises:
        ValueError: names ``begin`` and ``until`` and their values.
    """
    if not 0 <= begin < until <= 1:
        raise ValueError(f"begin={begin:g}, until={until:g}: must be fractions of the run with 0 <= begin < until <= 1")


def require_finite(name: str, *values: float) -> None:
    """Refuse infinities and NaN, which would reach the loss without a trace of where they came from.

    Raises:
        ValueError: names the argument and the offending value.
    """
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}")


def along(fraction: float, begin: float, until: float) -> float:
    """Return how far ``fraction`` lies between ``begin`` and ``until``, held at 0 before and at 1 after."""
    return min(max((fraction - begin) / (until - begin), 0.0), 1.0)
