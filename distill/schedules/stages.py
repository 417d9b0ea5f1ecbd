"""Stages: constant values that change after given numbers of epochs, for methods that train in stages."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from distill.schedules.base import Progress, Schedule, require_finite


class Stages(Schedule):
    """The first value for the first ``until[0]`` epochs, the next up to epoch ``until[1]``, and so forth.

    Unlike :class:`~distill.schedules.step.Step` it does not depend on the length of the run: AB, FSP and FT train their
    first stage for 30 epochs whatever follows.

    Args:
        values: the values in order, one more than ``until``.
        until: last epoch of each value but the last, counted from 1, increasing.

    Raises:
        ValueError: when the lengths do not fit, a value is not finite or the epochs are not increasing from 1.
    """

    def __init__(self, values: Sequence[float], until: Sequence[int]) -> None:
        if len(values) != len(until) + 1:
            raise ValueError(
                f"values has {len(values)} entries and until has {len(until)}: give one value more than epochs, "
                "values[0] holds up to epoch until[0]"
            )
        require_finite("values", *values)
        if not all(low < high for low, high in pairwise([0, *until])):
            raise ValueError(f"until={list(until)}: must be increasing epochs, the first at least 1")
        self.values, self.until = [float(v) for v in values], list(until)

    def __call__(self, progress: Progress) -> float:
        return self.values[bisect_left(self.until, progress.epoch)]
