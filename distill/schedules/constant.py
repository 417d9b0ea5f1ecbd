"""Constant: the same value throughout the run."""

from distill.schedules.base import Progress, Schedule, require_finite


class Constant(Schedule):
    """A number that never changes, so that a config can replace a schedule without changing its consumers.

    Args:
        value: the value.

    Raises:
        ValueError: when the value is not finite.
    """

    def __init__(self, value: float) -> None:
        require_finite("value", value)
        self.value = float(value)

    def __call__(self, progress: Progress) -> float:
        return self.value
