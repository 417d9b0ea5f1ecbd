"""NST: match the distribution of the spatial patterns to which channels respond.

Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017 (arXiv:1707.01219),
equation 3 with the polynomial kernel ``k(x, y) = (x . y)^2`` of each channel's map, flattened to unit length:
``mean k(s, s') + mean k(t, t') - 2 mean k(s, t)`` over pairs of channels, averaged over the batch. Channels need not
correspond, so the networks may have different numbers of them and no connector is trained.

Known to go wrong: written with products of all channels it takes C^2 H W numbers a sample. The sums of squared
products are ``|S'S|^2`` for the channels ``S (C, H W)`` as rows: here Gram matrices of channels or of positions,
whichever are smaller. The paper's weight is lambda / 2.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.paired import Paired, same_size
from distill.outputs import Batch, Outputs, Specs


def nst(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of the channels of one pair, averaged over the batch.

    Args:
        student: map ``(N, C, H, W)``.
        teacher: map ``(N, C', H', W')``; the larger of both is averaged to the smaller; receives no gradient.
    """
    maps = same_size(student.float(), teacher.detach().float())
    s, t = (F.normalize(x.flatten(2), dim=2) for x in maps)
    mine, other, positions = s.shape[1], t.shape[1], s.shape[2]
    if 2 * positions**2 <= mine**2 + other**2 + mine * other:
        difference = s.mT @ s / mine - t.mT @ t / other
        return difference.square().sum((1, 2)).mean()
    kernels = (x @ y.mT for x, y in ((s, s), (t, t), (s, t)))
    within, beyond, between = (k.square().mean() for k in kernels)
    return within + beyond - 2 * between


class NST(Paired):
    """Neuron selectivity transfer.

    Args:
        student_taps: maps of the student, shallow to deep.
        teacher_taps: maps of the teacher in the same order.

    Raises:
        ValueError: when the numbers of taps differ.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
    ) -> None:
        super().__init__(student_taps, teacher_taps)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        for pair in self.pairs(student, teacher):
            pair.require_maps()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):
            return torch.stack([nst(s, t) for s, t in self.features(student, teacher)]).sum()
