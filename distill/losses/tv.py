"""TV: the total variation distance, the largest difference of the probabilities that any set of classes has.

Wen et al., "f-Divergence Minimization for Sequence-Level Knowledge Distillation", ACL 2023 (arXiv:2307.15190), here of
the classes of an image: ``1/2 sum_k |softmax(z_t / T)[k] - softmax(z_s / T)[k]|``, averaged over the batch.

Known to go wrong: its gradient does not shrink as student and teacher meet, but only changes sign, so it needs the
decay of the learning rate to settle; in logits it shrinks as 1 / T, so neither T^2 nor nothing keeps its size, and none
is the default.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import by_sample, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def tv(student: Tensor, teacher: Tensor, temperature: Heat, t2: bool = False) -> Tensor:
    """Return half the sum of the absolute differences of softened probabilities, from 0 to 1.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    apart = F.softmax(soft.teacher, dim=1) - F.softmax(soft.student, dim=1)
    return by_sample(0.5 * apart.abs().sum(1), soft.factor)


class TV(Loss):
    """Total variation distance of softened probabilities.

    Args:
        temperature: T; divides both logits.
        t2: multiply by T^2.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(self, temperature: float | Schedule | Adaptive = 1.0, t2: bool = False) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        return tv(student.logits, teacher.logits, heat(self.temperature, student, teacher, batch), self.t2)
