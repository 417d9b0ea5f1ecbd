"""RKL: the KL divergence the other way round, which lets the student leave out what it cannot fit.

Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", ICLR 2024 (arXiv:2306.08543), here of the classes
of an image: ``T^2 KL(softmax(z_s / T) || softmax(z_t / T))``, summed over classes, averaged over the batch.

Known to go wrong: it seeks modes, so a student that has settled on a wrong class which the teacher does not rule out
hardly moves: the gradient has the student's probability as a factor and vanishes where that is 0. It is the limit of
jsd / (1 - beta) for beta to 1.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import divergence, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def rkl(student: Tensor, teacher: Tensor, temperature: Heat, t2: bool = True) -> Tensor:
    """Return the KL divergence from student to teacher at one temperature.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    return divergence(F.log_softmax(soft.teacher, dim=1), F.log_softmax(soft.student, dim=1), soft.factor)


class RKL(Loss):
    """KL divergence from the student's to the teacher's softened probabilities.

    Args:
        temperature: T; divides both logits.
        t2: multiply by T^2, which keeps the size of the gradient when T changes.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(self, temperature: float | Schedule | Adaptive = 4.0, t2: bool = True) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        return rkl(student.logits, teacher.logits, heat(self.temperature, student, teacher, batch), self.t2)
