"""Certainty: a temperature of each sample that grows with how sure the teacher is of it.

``T_b = low + (high - low) c_b`` with the certainty c_b in [0, 1] of the teacher's probabilities p at T = 1, 0 where
they are all equal and 1 where one is 1:
``confidence`` ``(K max p - 1) / (K - 1)``; ``entropy`` ``1 - H(p) / ln K``; ``margin`` ``max p - second p``.
In the spirit of confidence-weighted softening (Wen et al., arXiv:1911.07471), which has another formula: a peaked
answer is softened more, so that its dark knowledge shows. ``invert`` does the opposite.

Known to go wrong: a teacher that has learned its training set by heart is sure of everything, so that T is ``high``
throughout; see the mean in ``schedule/kd.temperature``. With T^2 in the loss, sure samples also count for more.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.schedules.adaptive import Adaptive, Heat, require_bounds

By = Literal["confidence", "entropy", "margin"]


def certainty(logits: Tensor, by: By) -> Tensor:
    """Return how sure each row of logits ``(N, K)`` is, in [0, 1] ``(N,)``; 1 where there is but one class."""
    classes = logits.shape[1]
    if classes == 1:
        return torch.ones_like(logits[:, 0], dtype=torch.float32)
    log_p = F.log_softmax(logits.float(), dim=1)
    p = log_p.exp()
    if by == "entropy":
        return (1 + (p * log_p).sum(1) / math.log(classes)).clamp(0, 1)
    top = p.topk(2, dim=1).values
    if by == "margin":
        return top[:, 0] - top[:, 1]
    return ((classes * top[:, 0] - 1) / (classes - 1)).clamp(0, 1)


class Certainty(Adaptive):
    """A temperature by sample from the teacher's certainty.

    Args:
        by: ``"confidence"``, ``"entropy"`` or ``"margin"``.
        low: T of a sample on which the teacher has no opinion; above 0.
        high: T of a sample of which the teacher is certain.
        invert: give the low T to what the teacher is certain of.

    Raises:
        ValueError: when the bounds are out of order or not above 0.
    """

    def __init__(self, by: By = "confidence", low: float = 1.0, high: float = 8.0, invert: bool = False) -> None:
        super().__init__()
        require_bounds(low, high)
        self.by: By = by
        self.low, self.high = float(low), float(high)
        self.invert = invert

    @torch.no_grad()
    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T by sample ``(N,)``."""
        sure = certainty(teacher, self.by)
        return self.low + (self.high - self.low) * (1 - sure if self.invert else sure)
