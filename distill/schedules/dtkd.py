"""DTKD: temperatures of student and teacher that share a budget by their largest logits.

Wei and Bai, "Dynamic Temperature Knowledge Distillation", 2024 (arXiv:2404.12711), equation 6:
``T_s = 2 m_s / (m_s + m_t) T`` and ``T_t = 2 m_t / (m_s + m_t) T`` with the largest logits m of each, by sample, so
that ``T_s + T_t = 2 T``; the loss has the factor ``T_s T_t`` for T^2. The gradient passes through m_s, as in the code.

Known to go wrong: the authors call their derivation of these formulas wrong (erratum in their code), the results not.
A largest logit of 0 or less turns the sign of a temperature, and m_s = -m_t divides by 0: here the logits are centred
over the classes first (in training their mean hardly moves anyway), and T_s and T_t are at least ``low``. The paper's
loss also has a plain KD term, see ``+experiment=dtkd``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from distill.schedules.adaptive import Adaptive, Heat, centred

TINY = 1e-6  # a sum of maxima below it is of two constant rows, which say nothing: both then have T


def shares(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return T_s and T_t ``(N,)`` for largest logits ``(N,)`` of both, as the formula has it."""
    total = student + teacher
    return 2 * student / total * temperature, 2 * teacher / total * temperature


class DTKD(Adaptive):
    """Two temperatures by sample, of the student and of the teacher.

    Args:
        temperature: T, the mean of the two.
        low: neither is below it; above 0 and at most T.
        strict_reference: take the largest logits as they are, and no lower bound, as the authors' code does; then a
            temperature may be negative.

    Raises:
        ValueError: when ``low`` and T are out of order, infinite or not above 0.
    """

    def __init__(self, temperature: float = 4.0, low: float = 0.5, strict_reference: bool = False) -> None:
        super().__init__()
        if not 0 < low <= temperature < math.inf:
            raise ValueError(f"temperature={temperature:g}, low={low:g}: must be finite with 0 < low <= temperature")
        self.temperature, self.low, self.strict_reference = float(temperature), float(low), strict_reference

    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T of the student and T of the teacher by sample ``(N,)``."""
        if self.strict_reference:
            return shares(student.float().amax(1), teacher.float().amax(1), self.temperature)
        m_s, m_t = centred(student).amax(1), centred(teacher).amax(1)
        silent = m_s + m_t < TINY
        t_s, t_t = shares(m_s.masked_fill(silent, 1.0), m_t.masked_fill(silent, 1.0), self.temperature)
        high = 2 * self.temperature - self.low
        return torch.clamp(t_s, self.low, high), torch.clamp(t_t, self.low, high)
