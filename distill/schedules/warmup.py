"""Warmup: from near 0 up to a value over the first epochs, then constant."""

from distill.schedules.base import Progress, Schedule, require_finite


class Warmup(Schedule):
    """``min(epoch / epochs, 1) * value`` with the epoch counted from 1, as the code of DKD and ReviewKD has it.

    Args:
        value: value after the warm-up.
        epochs: length of the warm-up in epochs, whatever the length of the run; the first epoch has ``value / epochs``.

    Raises:
        ValueError: when the value is not finite or ``epochs`` is below 1.
    """

    def __init__(self, value: float, epochs: int) -> None:
        require_finite("value", value)
        if epochs < 1:
            raise ValueError(f"epochs must be at least 1 in a warm-up, got {epochs}; use a constant for none")
        self.value, self.epochs = float(value), epochs

    def __call__(self, progress: Progress) -> float:
        return min(progress.epoch / self.epochs, 1.0) * self.value
