"""Exponential: a constant ratio per unit of progress, from start to end."""

from distill.schedules.base import Progress, Schedule, along, require_finite, require_span


class Exponential(Schedule):
    """Geometric interpolation ``start^(1-f) * end^f``: equal fractions of the run give equal ratios.

    Args:
        start: value up to ``begin``, above 0.
        end: value from ``until`` on, above 0.
        begin: fraction of the run where the curve leaves ``start``.
        until: fraction of the run where the curve reaches ``end``.

    Raises:
        ValueError: when a value is not above 0 or ``begin`` and ``until`` are out of order.
    """

    def __init__(self, start: float, end: float, begin: float = 0.0, until: float = 1.0) -> None:
        for name, value in (("start", start), ("end", end)):
            require_finite(name, value)
            if not value > 0:
                raise ValueError(f"{name} must be above 0, got {value:g}; only a linear or cosine schedule reaches 0")
        require_span(begin, until)
        self.start, self.end, self.begin, self.until = float(start), float(end), begin, until

    def __call__(self, progress: Progress) -> float:
        way = along(progress.fraction, self.begin, self.until)
        return float(self.start ** (1 - way) * self.end**way)
