"""Answer BCE: give every answer the probability that the teacher gives it, each by itself.

Wang et al., "Distilled Dual-Encoder Model for Vision-Language Understanding", EMNLP 2022 (arXiv:2112.08723), DiDE:
``BCE(z_s, sigmoid(z_t))`` summed over the K answers, averaged over the batch; its labels have weight 0.

Known to go wrong: a teacher trained by cross-entropy has probabilities that sum to 1 and logits without a zero of their
own, of which the sigmoid is no probability; take kd with it, and this with one trained by bce. The least value is the
teacher's own entropy, not 0.
"""

import torch
from torch import Tensor

from distill.losses.base import Loss, require_same_classes, require_teacher
from distill.losses.bce import bce, require_scale
from distill.outputs import Batch, Outputs, Specs


def answer_bce(student: Tensor, teacher: Tensor, scale: str = "sum") -> Tensor:
    """Return the binary cross-entropy with the teacher's probabilities, averaged over the batch.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        scale: ``sum`` or ``mean`` over the answers.
    """
    return bce(student, torch.sigmoid(teacher.detach().float()), scale)


class AnswerBCE(Loss):
    """Binary cross-entropy with the teacher's probability of each answer.

    Args:
        scale: ``sum`` or ``mean`` over the answers.

    Raises:
        ValueError: when ``scale`` is neither.
    """

    def __init__(self, scale: str = "sum") -> None:
        super().__init__()
        self.scale = require_scale(scale)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return answer_bce(student.logits, require_teacher(teacher).logits, self.scale)
