"""Squared: a factor times the square of another schedule, such as the weight T(t)^2 that a moving temperature hides."""

from distill.schedules.base import Progress, Schedule, require_finite


class Squared(Schedule):
    """``factor * of^2``: the loss weight that T^2 makes of a temperature schedule, for a term at constant T to follow.

    KD at a temperature that goes from 5 to 1 is multiplied by T^2 = 25 to 1, a weight schedule of its own. With this as
    the weight, a constant T and ``t2=false``, only the softening differs.

    Args:
        of: schedule, or number, that is squared.
        factor: number, or schedule, that the square is multiplied by.

    Raises:
        ValueError: when a number is not finite.
    """

    def __init__(self, of: float | Schedule, factor: float | Schedule = 1.0) -> None:
        for name, value in (("of", of), ("factor", factor)):
            if not isinstance(value, Schedule):
                require_finite(name, value)
        self.of, self.factor = of, factor

    def __call__(self, progress: Progress) -> float:
        return _at(self.factor, progress) * _at(self.of, progress) ** 2


def _at(value: float | Schedule, progress: Progress) -> float:
    return value(progress) if isinstance(value, Schedule) else float(value)
