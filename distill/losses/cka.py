"""CKA: match which samples of a batch are alike, by centred kernel alignment of linear kernels.

Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019 (arXiv:1905.00414), equation 3
with centred ``K = X X'``: ``1 - <K_s, K_t> / (|K_s| |K_t|)``. Rotating, scaling or shifting a feature changes nothing;
features need not have the same size and no connector is trained. No paper gives the loss a standard weight.

Known to go wrong: the plain estimate is biased and comes close to 1 for random features when a batch has fewer samples
than a feature has entries. ``unbiased`` takes the estimate of Song et al. 2012 (Nguyen et al. 2021, arXiv:2010.15327),
which needs four samples; a smaller batch gets the plain one. Samples that are all alike have no kernel: the value is 1,
without gradient. Under DDP each process compares the samples of its own batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.losses.paired import Paired
from distill.outputs import Batch, Outputs, Specs

EPS = 1e-12  # least norm that a kernel is divided by


def kernel(x: Tensor, unbiased: bool) -> Tensor:
    """Return the centred linear kernel ``(N, N)`` of rows ``(N, D)``; unbiased, its diagonal is 0."""
    x = x - x.mean(0)  # which the unbiased centring undoes too, but with less rounding
    gram = x @ x.mT
    samples = len(x)
    if not unbiased:
        return gram
    gram = gram.clone().fill_diagonal_(0.0)
    rows = gram.sum(1) / (samples - 2)
    centred = gram - rows[:, None] - rows + gram.sum() / ((samples - 1) * (samples - 2))
    return centred.fill_diagonal_(0.0)


def cka(student: Tensor, teacher: Tensor, unbiased: bool = False) -> Tensor:
    """Return one minus the alignment of two features.

    Args:
        student: feature ``(N, ...)``, flattened.
        teacher: feature ``(N, ...)`` of any size; receives no gradient.
        unbiased: take the estimate without bias, from four samples on.
    """
    s, t = student.float().flatten(1), teacher.detach().float().flatten(1)
    unbiased = unbiased and len(s) > 3
    if unbiased or len(s) <= max(s.shape[1], t.shape[1]):
        mine, other = kernel(s, unbiased), kernel(t, unbiased)
        return 1 - (_unit(mine) * _unit(other)).sum()
    # |X'Y|^2 = <X X', Y Y'>, the smaller matrices for many samples of few entries
    s, t = s - s.mean(0), t - t.mean(0)
    s, t = (x / torch.linalg.matrix_norm(x.mT @ x).clamp(min=EPS).sqrt() for x in (s, t))
    return 1 - (s.mT @ t).square().sum()


def _unit(matrix: Tensor) -> Tensor:
    return matrix / torch.linalg.matrix_norm(matrix).clamp(min=EPS)


class CKA(Paired):
    """Centred kernel alignment.

    Args:
        student_taps: features of the student, any shapes.
        teacher_taps: features of the teacher in the same order.
        unbiased: take the estimate without bias, from four samples on.

    Raises:
        ValueError: when the numbers of taps differ.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage3",),
        teacher_taps: Sequence[str] = ("stage3",),
        unbiased: bool = False,
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        self.unbiased = unbiased

    def prepare(self, student: Specs, teacher: Specs) -> None:
        self.pairs(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):
            return torch.stack([cka(s, t, self.unbiased) for s, t in self.features(student, teacher)]).sum()
