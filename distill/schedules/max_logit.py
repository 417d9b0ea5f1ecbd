"""MaxLogit: a temperature of each sample in proportion to its largest logit.

``T_b = scale max_k z_bk`` of logits centred over the classes, held in [low, high]: how peaked softened probabilities
are is decided by the largest logit over T, so a T that grows with it makes samples alike. Ours, after the observation
of DTKD (Wei and Bai, arXiv:2404.12711), without its coupling of teacher and student.

Known to go wrong: without centring the sign of a maximum means nothing, for a softmax does not see a shift.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill.schedules.adaptive import Adaptive, Heat, centred, require_bounds
from distill.schedules.base import require_finite


class MaxLogit(Adaptive):
    """A temperature by sample from the largest centred logit.

    Args:
        scale: T over the largest logit; above 0.
        low: lowest temperature; above 0.
        high: highest temperature.
        separate: give the student a T of its own, from its own logits, without gradient; else the teacher's for both.

    Raises:
        ValueError: when the scale is not above 0, or the bounds are out of order or not above 0.
    """

    def __init__(self, scale: float = 0.4, low: float = 1.0, high: float = 20.0, separate: bool = False) -> None:
        super().__init__()
        require_finite("scale", scale)
        if not scale > 0:
            raise ValueError(f"scale must be above 0, got {scale:g}")
        require_bounds(low, high)
        self.scale, self.low, self.high, self.separate = float(scale), float(low), float(high), separate

    def _of(self, logits: Tensor) -> Tensor:
        return (self.scale * centred(logits).amax(1)).clamp(self.low, self.high)

    @torch.no_grad()
    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T by sample ``(N,)``, or one of the student and one of the teacher."""
        return (self._of(student), self._of(teacher)) if self.separate else self._of(teacher)
