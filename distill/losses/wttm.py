"""WTTM: TTM with every sample weighted by how soft the teacher is on it.

Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024 (arXiv:2402.11148), section 4:
``U KL(q || softmax(z_s))`` with ``U = sum_k p_t[k]^gamma`` and ``q[k] = p_t[k]^gamma / U``, averaged over the batch;
gamma is 1 / T.

Known to go wrong: U lies between 1 (a sure teacher) and K^(1 - gamma) (a uniform one: 63 for 100 classes and gamma
0.1), so the weight that suits TTM is far too large here.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, require_positive, require_same_classes, require_teacher
from distill.losses.soft import divergence, heat
from distill.losses.ttm import powered
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def wttm(student: Tensor, teacher: Tensor, temperature: Heat) -> Tensor:
    """Return the weighted KL divergence from the transformed teacher to the student.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0, the inverse of the power; of a pair the teacher's.
    """
    power = powered(teacher, temperature)
    return divergence(
        F.log_softmax(student.float(), dim=1), F.log_softmax(power, dim=1), factor=power.logsumexp(dim=1).exp()
    )


class WTTM(Loss):
    """KL divergence from the teacher's transformed to the student's plain probabilities, more where it is softer.

    Args:
        temperature: T of the teacher alone, 1 / gamma of the paper.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(self, temperature: float | Schedule | Adaptive = 5.0) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        return wttm(student.logits, teacher.logits, heat(self.temperature, student, teacher, batch))
