"""NKD: KD with the target class apart and the other classes renormalised, both as cross-entropies.

Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
Customized Soft Labels", ICCV 2023 (arXiv:2303.13005): ``-p_t[y] log p_s[y] - gamma T^2 sum_{k != y} q_t[k] log
q_s[k]``, where p is the softmax at T = 1 and q that of the other classes' logits over T, averaged over the batch.

Known to go wrong: it is a cross-entropy, not a divergence, so it is not 0 at the teacher; one published copy of the
code (that of SDD) leaves the target in q, which makes the second part an ordinary KD. The hard-label term is not in it:
keep ce beside it. The target is one class, which a mixed image has not.
"""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, number, require_others, require_positive, require_same_classes, require_teacher
from distill.losses.dkd import split
from distill.losses.soft import by_sample, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def nkd(student: Tensor, teacher: Tensor, target: Tensor, temperature: Heat, gamma: float, t2: bool = True) -> Tensor:
    """Return the target's part plus gamma times that of the other classes.

    Args:
        student: logits ``(N, K)``, K at least 2.
        teacher: logits ``(N, K)``; receives no gradient.
        target: class indices ``(N,)``.
        temperature: T of the other classes, above 0; one, one a sample, or one for the student and one for the teacher.
        gamma: weight of the other classes.
        t2: multiply the part of the other classes by T^2.
    """
    column = target.unsqueeze(1)
    log_s = F.log_softmax(student.float(), dim=1).gather(1, column)
    p_t = F.softmax(teacher.detach().float(), dim=1).gather(1, column)
    soft = soften(student, teacher, temperature, t2)
    (_, others_s), (_, others_t) = split(soft.student, target), split(soft.teacher, target)
    # 0 at the target in others_s, so that it adds nothing
    others = by_sample((others_t.exp() * others_s).sum(1), soft.factor)
    return -(p_t * log_s).mean() - gamma * others


class NKD(Loss):
    """Cross-entropy with the teacher at the target, and among the other classes.

    Args:
        temperature: T of the other classes; divides both logits.
        gamma: weight of the other classes.
        t2: multiply the part of the other classes by T^2, as the paper does.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    mixes: ClassVar[bool] = False

    def __init__(
        self, temperature: float | Schedule | Adaptive = 1.0, gamma: float | Schedule = 1.5, t2: bool = True
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.gamma = gamma
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)
        require_others(student, "NKD")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        hyper = heat(self.temperature, student, teacher, batch), number(self.gamma)
        return nkd(student.logits, teacher.logits, batch.target, *hyper, self.t2)
