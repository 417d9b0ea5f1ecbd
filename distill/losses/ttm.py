"""TTM: match a teacher whose probabilities are raised to a power; the student has no temperature.

Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024 (arXiv:2402.11148): ``KL(q ||
softmax(z_s))`` with ``q[k] = p_t[k]^gamma / sum_j p_t[j]^gamma``, averaged over the batch. The power gamma is 1 / T,
for q is the teacher's softmax at T; what sets it apart from KD is a Rényi entropy of the student.

Known to go wrong: T^2 does not belong here, because the student's logits are not divided by T; the weights of the paper
(45 with gamma 0.1) belong to this size and are not those of KD.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import column, divergence, heat
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def powered(teacher: Tensor, temperature: Heat) -> Tensor:
    """Return the log of the teacher's probabilities to the power 1 / T, not normalised, ``(N, K)`` in float32.

    Args:
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; of a pair for student and teacher the teacher's counts.
    """
    t = temperature[1] if isinstance(temperature, tuple) else temperature
    return F.log_softmax(teacher.detach().float(), dim=1) / column(t)


def ttm(student: Tensor, teacher: Tensor, temperature: Heat) -> Tensor:
    """Return the KL divergence from the transformed teacher to the student.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0, the inverse of the power; of a pair the teacher's.
    """
    log_q = F.log_softmax(powered(teacher, temperature), dim=1)
    return divergence(F.log_softmax(student.float(), dim=1), log_q)


class TTM(Loss):
    """KL divergence from the teacher's transformed to the student's plain probabilities.

    Args:
        temperature: T of the teacher alone, 1 / gamma of the paper.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(self, temperature: float | Schedule | Adaptive = 10.0) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        return ttm(student.logits, teacher.logits, heat(self.temperature, student, teacher, batch))
