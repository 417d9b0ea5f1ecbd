"""Cosine: half a cosine wave from start to end, flat at both."""

import math

from distill.schedules.base import Progress, Schedule, along, require_finite, require_span


class Cosine(Schedule):
    """Half a cosine in the fraction of the run, the shape of SGDR (Loshchilov and Hutter, 2017) without restarts.

    Args:
        start: value up to ``begin``.
        end: value from ``until`` on.
        begin: fraction of the run where the curve leaves ``start``.
        until: fraction of the run where the curve reaches ``end``.

    Raises:
        ValueError: when a value is not finite or ``begin`` and ``until`` are out of order.
    """

    def __init__(self, start: float, end: float, begin: float = 0.0, until: float = 1.0) -> None:
        require_finite("start", start)
        require_finite("end", end)
        require_span(begin, until)
        self.start, self.end, self.begin, self.until = float(start), float(end), begin, until

    def __call__(self, progress: Progress) -> float:
        remaining = (1 + math.cos(math.pi * along(progress.fraction, self.begin, self.until))) / 2
        return remaining * self.start + (1 - remaining) * self.end
