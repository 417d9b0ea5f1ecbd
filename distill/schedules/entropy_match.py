"""EntropyMatch: the temperature of each sample at which its softened probabilities have a given entropy.

``T_b`` solves ``H(softmax(z_b / T_b)) = h`` by bisection over ln T, for the entropy grows with T. In the spirit of
CIST (arXiv:2605.20357), which asks for soft labels of similar entropy; the formula is ours.

Known to go wrong: rows whose entropy cannot be h within the bounds have the nearer bound, such as constant ones; with
several large logits that are equal no T reaches an h below ln of their number.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.schedules.adaptive import Adaptive, Heat, require_bounds

STEPS = 16  # halvings of ln(high / low): 5e-5 of T for bounds that are a factor of 20 apart


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy in nats of the softmax of logits ``(N, K)``, by row."""
    log_p = F.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(1)


def match(logits: Tensor, goal: float, low: float, high: float) -> Tensor:
    """Return T ``(N,)`` in [low, high] at which each row of logits ``(N, K)`` has the entropy ``goal``, in nats."""
    logits = logits.float()
    below = torch.full_like(logits[:, 0], math.log(low))
    above = torch.full_like(below, math.log(high))
    for _ in range(STEPS):
        middle = (below + above) / 2
        cold = entropy(logits / middle.exp()[:, None]) < goal
        below, above = torch.where(cold, middle, below), torch.where(cold, above, middle)
    return ((below + above) / 2).exp().clamp(low, high)


class EntropyMatch(Adaptive):
    """A temperature by sample that brings the teacher, or both, to one entropy.

    Args:
        entropy: what is asked for, as a part of that of equal probabilities, ``ln K``; between 0 and 1.
        low: lowest temperature; above 0.
        high: highest temperature.
        separate: give the student a T of its own, from its own logits, without gradient; else the teacher's for both.

    Raises:
        ValueError: when the entropy is outside (0, 1), or the bounds are out of order or not above 0.
    """

    def __init__(self, entropy: float = 0.5, low: float = 1.0, high: float = 20.0, separate: bool = False) -> None:
        super().__init__()
        if not 0 < entropy < 1:
            raise ValueError(f"entropy must be a part of ln K between 0 and 1, got {entropy:g}")
        require_bounds(low, high)
        self.entropy, self.low, self.high, self.separate = float(entropy), float(low), float(high), separate

    @torch.no_grad()
    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T by sample ``(N,)``, or one of the student and one of the teacher."""
        goal = self.entropy * math.log(teacher.shape[1])
        told = match(teacher, goal, self.low, self.high)
        return (match(student, goal, self.low, self.high), told) if self.separate else told
