"""WSLD: soft labels weighted by how far the student is behind the teacher on each sample.

Zhou et al., "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance Tradeoff Perspective", ICLR 2021
(arXiv:2102.00650): ``T^2 (1 - exp(-L_s / L_t)) (-sum_k p_t log p_s)``, averaged over the batch, where p is softened by
T and L_s and L_t are the cross-entropies of student and teacher with the label at T = 1, both constants for the
gradient.

Known to go wrong: L_t of a teacher that is sure reaches 0, so 1e-7 is added to it, and the weight is then 1 unless L_s
is 0 too; a teacher that fits its training set gives weight 1 almost everywhere, which is plain KD. The label is one
class, which a mixed image has not.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import by_sample, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule

EPS = 1e-7  # added to the teacher's cross-entropy, as in the authors' code


def behind(student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Return ``1 - exp(-L_s / L_t)`` of each sample ``(N,)``, without gradient; arguments as in :func:`wsld`."""
    with torch.no_grad():
        mine, other = (F.cross_entropy(z.float(), target, reduction="none") for z in (student, teacher))
        return -torch.expm1(-mine / (other + EPS))


def wsld(student: Tensor, teacher: Tensor, target: Tensor, temperature: Heat, t2: bool = True) -> Tensor:
    """Return the cross-entropy with the teacher's softened probabilities, weighted by sample.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        target: class indices ``(N,)``.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    values = F.cross_entropy(soft.student, F.softmax(soft.teacher, dim=1), reduction="none")
    return by_sample(behind(student, teacher, target) * values, soft.factor)


class WSLD(Loss):
    """Soft labels that count less where the student already is as good as the teacher.

    Args:
        temperature: T; divides both logits of the soft label, not those of the weights.
        t2: multiply by T^2, which keeps the size of the gradient when T changes.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    mixes: ClassVar[bool] = False

    def __init__(self, temperature: float | Schedule | Adaptive = 2.0, t2: bool = True) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        temperature = heat(self.temperature, student, teacher, batch)
        return wsld(student.logits, teacher.logits, batch.target, temperature, self.t2)
