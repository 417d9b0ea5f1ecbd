"""BCE: every answer is a yes-or-no question of its own, with credit for each of several right ones.

The loss of VQA v2 since Teney et al., "Tips and Tricks for Visual Question Answering", CVPR 2018 (arXiv:1708.02711),
section 3.8: ``-sum_k s_k log sigmoid(z_k) + (1 - s_k) log(1 - sigmoid(z_k))``, s_k the credit of answer k, 1 for the
label where the data give no credit; averaged over the batch.

Known to go wrong: the mean over answers is K times smaller (3,129 times in VQA v2), and public code multiplies by K
again, which is the sum; ``mean`` leaves that out. A mixed image has no credit of its own and is refused.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss
from distill.outputs import Batch, Outputs

SCALES = ("sum", "mean")


def bce(logits: Tensor, credit: Tensor, scale: str = "sum") -> Tensor:
    """Return the binary cross-entropy of answers, averaged over the batch.

    Args:
        logits: ``(N, K)``.
        credit: of each answer ``(N, K)``, from 0 to 1.
        scale: ``sum`` or ``mean`` over the answers.
    """
    value = F.binary_cross_entropy_with_logits(logits.float(), credit.float())
    return value * logits.shape[1] if scale == "sum" else value


def require_scale(scale: str) -> str:
    """Return what is done over the answers.

    Raises:
        ValueError: when it is neither sum nor mean.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    return scale


class BCE(Loss):
    """Binary cross-entropy with the labels, or with the credit of every answer where the data give it.

    Args:
        scale: ``sum`` or ``mean`` over the answers.

    Raises:
        ValueError: when ``scale`` is neither.
    """

    reads_teacher: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def __init__(self, scale: str = "sum") -> None:
        super().__init__()
        self.scale = require_scale(scale)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        credit = batch.scores
        if credit is None:
            credit = torch.zeros_like(student.logits).scatter_(1, batch.target[:, None], 1)
        return bce(student.logits, credit, self.scale)
