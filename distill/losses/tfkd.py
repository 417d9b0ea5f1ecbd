"""TfKD: distillation without a teacher, from a made-up one that is right and softened.

Yuan et al., "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020 (arXiv:1909.11723), the
regularisation Tf-KD_reg: ``KL(p_d^tau || softmax(z_s / tau))`` with ``p_d[y] = a`` and ``p_d[k] = (1 - a) / (K - 1)``
elsewhere, softened to ``p_d^tau[k] = p_d[k]^(1 / tau) / sum_j p_d[j]^(1 / tau)``; averaged over the batch.

Known to go wrong: the paper's objective is (1 - alpha) ce + alpha of this, so lower the weight of ce with it; there is
no tau^2, and at tau 20 the gradient is 400 times smaller than that of ce. ``strict_reference`` does what the authors'
code does instead: it takes the probabilities p_d for logits (softmax(p_d / tau), nearly uniform), leaves the student at
tau 1, and averages over classes too, for which the code has a multiplier of up to 100 by network.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, number, require_others, require_positive
from distill.losses.soft import divergence
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.base import Schedule


def virtual_teacher(target: Tensor, classes: int, correct: float) -> Tensor:
    """Return the probabilities ``(N, K)`` of a teacher that gives ``correct`` to the class in ``target`` ``(N,)``."""
    rest = torch.full((len(target), classes), (1 - correct) / (classes - 1), device=target.device)
    return rest.scatter(1, target.unsqueeze(1), correct)


def tfkd(student: Tensor, target: Tensor, temperature: float, correct: float, strict_reference: bool = False) -> Tensor:
    """Return the KL divergence from the softened made-up teacher to the student.

    Args:
        student: logits ``(N, K)``, K at least 2.
        target: class indices ``(N,)``.
        temperature: tau, above 0.
        correct: a, the probability of the right class before softening, above 0 and below 1.
        strict_reference: as the authors' code.
    """
    student = student.float()
    probabilities = virtual_teacher(target, student.shape[1], correct)
    if strict_reference:
        log_t = F.log_softmax(probabilities / temperature, dim=1)
        return divergence(F.log_softmax(student, dim=1), log_t) / student.shape[1]
    log_t = F.log_softmax(probabilities.log() / temperature, dim=1)
    return divergence(F.log_softmax(student / temperature, dim=1), log_t)


class TfKD(Loss):
    """KL divergence from a softened, always right, made-up teacher.

    Args:
        temperature: tau.
        correct: a, the probability of the right class before softening, above 0 and below 1.
        strict_reference: as the authors' code: probabilities for logits, the student at tau 1, the mean over classes.

    Raises:
        ValueError: when tau is, or at any time becomes, 0 or less, or ``correct`` is outside (0, 1).
    """

    reads_teacher: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def __init__(
        self, temperature: float | Schedule = 20.0, correct: float = 0.99, strict_reference: bool = False
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        if not 0 < correct < 1:
            raise ValueError(f"correct must be above 0 and below 1, got {correct:g}")
        self.temperature = temperature
        self.correct = correct
        self.strict_reference = strict_reference

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_others(student, "TfKD")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        tau = number(self.temperature)
        return tfkd(student.logits, batch.target, tau, self.correct, self.strict_reference)
