"""DKD: KD taken apart into the target class and the others, each with its own weight.

Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022 (arXiv:2203.08679), equation 7:
``alpha TCKD + beta NCKD``, times T^2. TCKD compares the pairs (probability of the target, of all others together),
NCKD the distributions over the others alone. Of one sample, ``KD = TCKD + (1 - p_t[target]) NCKD``.

Known to go wrong: a large beta needs a warm-up of the weight (20 epochs in the paper's CIFAR-100 runs); ``log`` of a
probability that has reached 0 is infinite, hence log-sum-exp of logits here; one implementation sums over the batch.
The target is one class: of images mixed by mixup or cutmix the paper says nothing, and such a config is refused.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, number, require_others, require_positive, require_same_classes, require_teacher
from distill.losses.soft import divergence, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def split(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return log probabilities of target and rest ``(N, 2)``, and among the others ``(N, K)``, 0 at the target.

    Args:
        logits: ``(N, K)``, K at least 2.
        target: class indices ``(N,)``.
    """
    column = target.unsqueeze(1)
    is_target = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, column, True)
    others = logits.masked_fill(is_target, -torch.inf)
    pair = torch.cat([logits.gather(1, column), others.logsumexp(dim=1, keepdim=True)], dim=1)
    # 0 at the target in student and teacher alike: it adds exp(0) * (0 - 0) to the divergence and passes no gradient
    return F.log_softmax(pair, dim=1), F.log_softmax(others, dim=1).masked_fill(is_target, 0.0)


def dkd_parts(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: Heat, t2: bool = False
) -> tuple[Tensor, Tensor]:
    """Return TCKD and NCKD, averaged over the batch.

    Args:
        student: logits ``(N, K)``, K at least 2.
        teacher: logits ``(N, K)``; receives no gradient.
        target: class indices ``(N,)``.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    pair_s, others_s = split(soft.student, target)
    pair_t, others_t = split(soft.teacher, target)
    return divergence(pair_s, pair_t, soft.factor), divergence(others_s, others_t, soft.factor)


def dkd(
    student: Tensor, teacher: Tensor, target: Tensor, temperature: Heat, alpha: float, beta: float, t2: bool = True
) -> Tensor:
    """Return ``alpha TCKD + beta NCKD``; arguments as in :func:`dkd_parts`."""
    tckd, nckd = dkd_parts(student, teacher, target, temperature, t2)
    return alpha * tckd + beta * nckd


class DKD(Loss):
    """Decoupled KD.

    Args:
        temperature: T; divides both logits.
        alpha: weight of the target class against the rest.
        beta: weight of the distribution over the other classes.
        t2: multiply by T^2, which keeps the size of the gradient when T changes.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    mixes: ClassVar[bool] = False

    def __init__(
        self,
        temperature: float | Schedule | Adaptive = 4.0,
        alpha: float | Schedule = 1.0,
        beta: float | Schedule = 8.0,
        t2: bool = True,
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.alpha = alpha
        self.beta = beta
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)
        require_others(student, "DKD")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        hyper = heat(self.temperature, student, teacher, batch), number(self.alpha), number(self.beta)
        return dkd(student.logits, teacher.logits, batch.target, *hyper, self.t2)
