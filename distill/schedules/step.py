"""Step: constant values that change at given fractions of the run."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from distill.schedules.base import Progress, Schedule, require_finite


class Step(Schedule):
    """Staircase: the first value up to the first fraction, the next from that fraction on, and so forth.

    Args:
        values: the values in order, one more than ``at``.
        at: fractions of the run in (0, 1], increasing, where the next value takes over.

    Raises:
        ValueError: when the lengths do not fit, a value is not finite or the fractions are not increasing in (0, 1].
    """

    def __init__(self, values: Sequence[float], at: Sequence[float]) -> None:
        if len(values) != len(at) + 1:
            raise ValueError(
                f"values has {len(values)} entries and at has {len(at)}: give one value more than fractions, "
                "values[0] holds up to at[0]"
            )
        require_finite("values", *values)
        marks = [0.0, *at]
        if not all(low < high for low, high in pairwise(marks)) or marks[-1] > 1:
            raise ValueError(f"at={list(at)}: must be increasing fractions of the run, each above 0 and at most 1")
        self.values, self.at = [float(v) for v in values], list(at)

    def __call__(self, progress: Progress) -> float:
        return self.values[bisect_right(self.at, progress.fraction)]
