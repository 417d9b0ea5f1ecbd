"""Piecewise: straight lines through given points."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from distill.schedules.base import Progress, Schedule, along, require_finite


class Piecewise(Schedule):
    """Linear interpolation between points; constant before the first and after the last.

    Args:
        points: ``(fraction of the run, value)`` pairs, fractions increasing in [0, 1].

    Raises:
        ValueError: when a point is not a pair of finite numbers, there is none, or the fractions do not increase.
    """

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        if not points or any(len(point) != 2 for point in points):
            raise ValueError(f"points={list(points)}: give at least one pair [fraction, value]")
        self.fractions, self.values = [float(f) for f, _ in points], [float(v) for _, v in points]
        require_finite("points", *self.values)
        ordered = all(low < high for low, high in pairwise(self.fractions))
        if not ordered or self.fractions[0] < 0 or self.fractions[-1] > 1:
            raise ValueError(f"points={list(points)}: fractions, the first of each pair, must increase within [0, 1]")

    def __call__(self, progress: Progress) -> float:
        right = bisect_right(self.fractions, progress.fraction)
        if right == 0:
            return self.values[0]
        if right == len(self.values):
            return self.values[-1]
        way = along(progress.fraction, self.fractions[right - 1], self.fractions[right])
        return (1 - way) * self.values[right - 1] + way * self.values[right]
