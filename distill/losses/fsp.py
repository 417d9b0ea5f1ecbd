"""FSP: match how features flow from one stage to the next.

Yim et al., "A Gift from Knowledge Distillation", CVPR 2017, equations 1 and 2, with the flow between two maps of one
network ``G_ij = mean over positions of a_i b_j``: ``sum_l |G_s - G_t|^2`` over all entries, averaged over the batch.
Maps of different sizes meet by max pooling. The paper trains on this alone first and on the labels alone afterwards:
``recipe=cifar_crd_two_stage``.

Known to go wrong: at the paper's lambda of 1 and a usual learning rate this sum over thousands of entries diverges.
Student and teacher need the same channels at every tap. Public code takes the mean over entries, smaller by the product
of both numbers of channels, and pools by means (``strict_reference``); its weight of 50 for the CIFAR-100 tables is
never applied, for the first stage adds the terms as they are and the second has none.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from distill.losses.paired import Paired, same_size
from distill.outputs import Batch, Outputs, Specs


def flow(lower: Tensor, upper: Tensor, strict_reference: bool = False) -> Tensor:
    """Return the flow ``(N, C, C')`` between maps ``(N, C, H, W)`` and ``(N, C', H', W')``.

    The larger map is pooled to the size of the smaller, by its largest values, or with ``strict_reference`` by means.
    """
    lower, upper = same_size(lower.float(), upper.float(), largest=not strict_reference)
    a, b = lower.flatten(2), upper.flatten(2)
    return a @ b.mT / a.shape[2]


def fsp(student: Tensor, teacher: Tensor, strict_reference: bool = False) -> Tensor:
    """Return the squared distance of two flows ``(N, C, C')``, averaged over the batch.

    Args:
        student: flow of the student.
        teacher: flow of the teacher; receives no gradient.
        strict_reference: mean over the entries in place of their sum, as public code has it.
    """
    squared = (student - teacher.detach()).square()
    return squared.mean() if strict_reference else squared.sum((1, 2)).mean()


class FSP(Paired):
    """Flow of the solution procedure, between each tap and the next.

    Args:
        student_taps: maps of the student, shallow to deep, at least two.
        teacher_taps: maps of the teacher in the same order, with the same channels.
        strict_reference: mean over the entries in place of their sum, and pooling by means, as public code has it.

    Raises:
        ValueError: when the numbers of taps differ, or there is one only.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stem", "stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stem", "stage1", "stage2", "stage3"),
        strict_reference: bool = False,
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        if len(student_taps) < 2:
            raise ValueError(f"student_taps={list(student_taps)}: a flow is between two taps; give two or more")
        self.strict_reference = strict_reference

    def prepare(self, student: Specs, teacher: Specs) -> None:
        for pair in self.pairs(student, teacher):
            pair.require_maps()
            if pair.student[0] != pair.teacher[0]:
                pair.refuse("flows have one entry for each two channels; choose networks of the same widths")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):
            steps = pairwise(self.features(student, teacher))
            reference = self.strict_reference
            flows = [(flow(s, up_s, reference), flow(t, up_t, reference)) for (s, t), (up_s, up_t) in steps]
            return torch.stack([fsp(s, t, reference) for s, t in flows]).sum()
