"""Linear: a straight line from start to end."""

from distill.schedules.base import Progress, Schedule, along, require_finite, require_span


class Linear(Schedule):
    """Straight line in the fraction of the run.

    Args:
        start: value up to ``begin``.
        end: value from ``until`` on.
        begin: fraction of the run where the line leaves ``start``.
        until: fraction of the run where the line reaches ``end``.

    Raises:
        ValueError: when a value is not finite or ``begin`` and ``until`` are out of order.
    """

    def __init__(self, start: float, end: float, begin: float = 0.0, until: float = 1.0) -> None:
        require_finite("start", start)
        require_finite("end", end)
        require_span(begin, until)
        self.start, self.end, self.begin, self.until = float(start), float(end), begin, until

    def __call__(self, progress: Progress) -> float:
        way = along(progress.fraction, self.begin, self.until)
        # this form, unlike start + way * (end - start), gives both ends exactly
        return (1 - way) * self.start + way * self.end
