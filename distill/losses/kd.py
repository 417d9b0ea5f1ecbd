"""KD: match the teacher's softened class probabilities.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531), section 2:
``T^2 KL(softmax(z_t / T) || softmax(z_s / T))``, summed over classes, averaged over the batch.

Known to go wrong: averaging over classes too makes the term K times smaller; leaving out T^2 makes its gradient
shrink as 1/T^2. With a temperature that moves during the run T^2 is a second, hidden weight schedule;
``t2=False`` takes it out.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import divergence, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def kd(student: Tensor, teacher: Tensor, temperature: Heat, t2: bool = True) -> Tensor:
    """Return the KL divergence from teacher to student at one temperature.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    return divergence(F.log_softmax(soft.student, dim=1), F.log_softmax(soft.teacher, dim=1), soft.factor)


class KD(Loss):
    """KL divergence from the teacher's to the student's softened probabilities.

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
        return kd(student.logits, teacher.logits, heat(self.temperature, student, teacher, batch), self.t2)
