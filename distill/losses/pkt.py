"""PKT: match how probable each sample is as the neighbour of each other.

Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018 (arXiv:1803.10837),
section 3: ``p_j|i = k(x_i, x_j) / sum_{m != i} k(x_i, x_m)`` with ``k = (cos + 1) / 2``, and the KL divergence from
teacher to student over ``j != i``; here divided by b^2 as in public code, to which the weight belongs.

Known to go wrong: the paper sums, public code takes the mean, so its weight is 30000 (for 64 samples a batch); public
code counts each sample as its own neighbour (``strict_reference``). A single sample has no neighbour and the value 0.
"""

import torch
from torch import Tensor

from distill.losses.gathering import gather
from distill.losses.tap_pair import TapPair, full_precision, unit
from distill.outputs import Batch, Outputs

EPS = 1e-7  # added to probabilities before their ratio is taken, as in the authors' code


def _neighbours(x: Tensor, strict_reference: bool) -> Tensor:
    x = unit(x.flatten(1))
    near = ((x @ x.T + 1) / 2).clamp_min(0)
    if not strict_reference:
        near = near * (1 - torch.eye(len(x), device=x.device))
    return near / near.sum(1, keepdim=True).clamp_min(EPS)


def pkt(student: Tensor, teacher: Tensor, strict_reference: bool = False) -> Tensor:
    """Return the divergence of neighbour probabilities, averaged over all b^2 pairs.

    Args:
        student: feature ``(N, ...)``.
        teacher: feature ``(N, ...)``, of any shape; receives no gradient.
        strict_reference: count each sample as a neighbour of its own, as public code does.
    """
    p_s, p_t = _neighbours(student.float(), strict_reference), _neighbours(teacher.detach().float(), strict_reference)
    return (p_t * ((p_t + EPS) / (p_s + EPS)).log()).mean()


class PKT(TapPair):
    """Probabilities of being neighbours, by one feature on each side.

    Args:
        student_tap: name of the student's feature.
        teacher_tap: name of the teacher's feature.
        strict_reference: count each sample as a neighbour of its own, as public code does.
        gather: in a distributed run, compare the samples of all processes; else each process compares its own, which
            is another loss, of a smaller batch.
    """

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        strict_reference: bool = False,
        gather: bool = True,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        self.strict_reference = strict_reference
        self.gather = gather

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        if self.gather:
            mine, other = gather(mine), gather(other)
        with full_precision(mine):
            return pkt(mine, other, self.strict_reference)
