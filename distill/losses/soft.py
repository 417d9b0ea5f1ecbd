"""Softened logits: what every loss with a temperature starts from, whatever kind of temperature it is."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import number
from distill.outputs import Batch, Outputs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


class Soft(NamedTuple):
    """Logits over their temperatures ``(N, K)`` in float32, the teacher's detached, and the factor of each sample.

    Attributes:
        student: logits of the student over T_s.
        teacher: logits of the teacher over T_t, without gradient but for that of a learned T.
        factor: T_s T_t, which is T^2 for one temperature, or 1: a number, or a tensor of shape () or (N,).
    """

    student: Tensor
    teacher: Tensor
    factor: float | Tensor


def heat(temperature: float | Schedule | Adaptive, student: Outputs, teacher: Outputs, batch: Batch) -> Heat:
    """Return a loss's temperature for a batch, asked for where it is adaptive."""
    if isinstance(temperature, Adaptive):
        found: Heat = temperature(student.logits, teacher.logits, batch.target)
        return found
    return number(temperature)


def soften(student: Tensor, teacher: Tensor, temperature: Heat, t2: bool = True) -> Soft:
    """Return the logits of both divided by the temperature.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; of shape () or (N,), or a pair of them for student and teacher.
        t2: whether ``factor`` is T^2, or 1.
    """
    t_s, t_t = temperature if isinstance(temperature, tuple) else (temperature, temperature)
    factor = t_s * t_t if t2 else 1.0
    return Soft(student.float() / column(t_s), teacher.detach().float() / column(t_t), factor)


def column(value: float | Tensor) -> float | Tensor:
    """Return a value by sample ``(N,)`` as ``(N, 1)``, and a single one as it is."""
    return value[:, None] if isinstance(value, Tensor) and value.dim() else value


def by_sample(values: Tensor, factor: float | Tensor) -> Tensor:
    """Return the mean over the batch of values ``(N,)``, each times its factor."""
    return (factor * values).mean()


def divergence(log_s: Tensor, log_t: Tensor, factor: float | Tensor = 1.0) -> Tensor:
    """Return the KL divergence from t to s of log probabilities ``(N, K)``, each row times its factor, averaged."""
    if isinstance(factor, Tensor) and factor.dim():
        return by_sample(F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(1), factor)
    return factor * F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
