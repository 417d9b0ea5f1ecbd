"""CE: cross-entropy with the labels, the term that distillation is added to."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.data.keyed import mix as hashed
from distill.data.splits import stratified
from distill.losses.base import Loss
from distill.outputs import Batch, Mix, Outputs, TrainingSet


def ce(
    logits: Tensor,
    target: Tensor,
    label_smoothing: float = 0.0,
    mix: Mix | None = None,
    labelled: Tensor | None = None,
) -> Tensor:
    """Return the mean over the batch of ``-sum_k q_k log softmax(logits)_k``.

    Args:
        logits: ``(N, K)``.
        target: class indices ``(N,)``.
        label_smoothing: share of ``q`` that is spread evenly over all K classes (Szegedy et al., 2016).
        mix: what was mixed into each image; its class then has the rest of the weight (Zhang et al., 2018).
        labelled: whose label is known ``(N,)``, bool; the others count as 0 in the mean, so that a label pulls as
            hard whatever its share of a batch, on one process or on several. None: everyone's.
    """
    logits = logits.float()
    if mix is None and labelled is None:
        return F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    value = F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="none")
    if mix is not None:
        other = F.cross_entropy(logits, mix.target, label_smoothing=label_smoothing, reduction="none")
        value = mix.share * value + (1 - mix.share) * other
    return value.mean() if labelled is None else (value * labelled).mean()


class CE(Loss):
    """Cross-entropy with the labels.

    Args:
        label_smoothing: share of the target spread over all classes, in [0, 1).
        labelled: share of each class's training images whose label is used, in (0, 1]; the same ones for every seed.
            Other terms go on seeing every image. Of a mixed image it is its own label that has to be known.

    Raises:
        ValueError: when ``label_smoothing`` is outside [0, 1) or ``labelled`` outside (0, 1]; or when no image would be
            left.
    """

    reads_teacher: ClassVar[bool] = False
    known: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, labelled: float = 1.0) -> None:
        super().__init__()
        if not 0 < labelled <= 1:
            raise ValueError(f"labelled must be above 0 and at most 1, got {labelled:g}")
        self.labelled = labelled
        self.register_buffer("known", None, persistent=False)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 up to but not including 1, got {label_smoothing:g}")
        self.label_smoothing = label_smoothing

    def meet(self, data: TrainingSet) -> None:
        if self.labelled == 1:
            return
        count = round(self.labelled * len(data.target))
        if not count:
            raise ValueError(f"labelled={self.labelled:g} of {len(data.target)} training images leaves none; raise it")
        self.known = stratified(data.target, count, hashed(torch.arange(len(data.target))))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        known = None if self.known is None else self.known[batch.index]
        return ce(student.logits, batch.target, self.label_smoothing, batch.mix, known)
