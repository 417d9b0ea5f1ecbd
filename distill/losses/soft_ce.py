"""SoftCE: cross-entropy with the teacher's softened probabilities as labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531), section 2: ``-T^2
sum_k softmax(z_t / T)[k] log softmax(z_s / T)[k]``, averaged over the batch.

Known to go wrong: it is KD plus T^2 times the teacher's entropy, which no student can change: the gradient is that of
KD, the value is not 0 at the teacher, and with a temperature that moves, the value moves by itself.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import by_sample, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def soft_ce(student: Tensor, teacher: Tensor, temperature: Heat, t2: bool = True) -> Tensor:
    """Return the cross-entropy with the teacher's softened probabilities.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    values = F.cross_entropy(soft.student, F.softmax(soft.teacher, dim=1), reduction="none")
    return by_sample(values, soft.factor)


class SoftCE(Loss):
    """Cross-entropy with the teacher's softened probabilities.

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
        return soft_ce(student.logits, teacher.logits, heat(self.temperature, student, teacher, batch), self.t2)
