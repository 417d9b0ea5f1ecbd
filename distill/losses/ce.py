"""CE: cross-entropy with the labels, the term that distillation is added to."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss
from distill.outputs import Batch, Mix, Outputs


def ce(logits: Tensor, target: Tensor, label_smoothing: float = 0.0, mix: Mix | None = None) -> Tensor:
    """Return the mean over the batch of ``-sum_k q_k log softmax(logits)_k``.

    Args:
        logits: ``(N, K)``.
        target: class indices ``(N,)``.
        label_smoothing: share of ``q`` that is spread evenly over all K classes (Szegedy et al., 2016).
        mix: what was mixed into each image; its class then has the rest of the weight (Zhang et al., 2018).
    """
    logits = logits.float()
    if mix is None:
        return F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    own, other = (
        F.cross_entropy(logits, t, label_smoothing=label_smoothing, reduction="none") for t in (target, mix.target)
    )
    return (mix.share * own + (1 - mix.share) * other).mean()


class CE(Loss):
    """Cross-entropy with the labels.

    Args:
        label_smoothing: share of the target spread over all classes, in [0, 1).

    Raises:
        ValueError: when ``label_smoothing`` is outside [0, 1).
    """

    reads_teacher: ClassVar[bool] = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 up to but not including 1, got {label_smoothing:g}")
        self.label_smoothing = label_smoothing

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return ce(student.logits, batch.target, self.label_smoothing, batch.mix)
