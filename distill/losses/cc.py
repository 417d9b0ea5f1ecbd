"""CC: match a kernel between the samples of a batch, after an embedding of both features.

Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019 (arXiv:1904.01802), equations 5 to 10:
``||K_t - K_s||^2 / n^2`` with the Gaussian kernel ``exp(-gamma |x - y|^2)`` of unit vectors in its Taylor series of
order P, ``exp(-2 gamma) sum_p (2 gamma)^p / p! <x, y>^p``. Both embeddings are trained.

Known to go wrong: such kernels differ by less than 1, so the paper's weight (0.003) pulls little. What RepDistiller
calls CC, the row of the CIFAR-100 tables with weight 0.02, is another loss (``strict_reference``): products of
``|f_s - f_t|`` of adjacent samples, summed over dimensions; it depends on their order. Both forms can be lowered by the
teacher's embedding alone, because it is trained too.
"""

import math

import torch
from torch import Tensor, nn

from distill.losses.gathering import gather
from distill.losses.tap_pair import TapPair, full_precision, unit
from distill.outputs import Batch, Outputs, Specs


def kernel(x: Tensor, gamma: float, order: int) -> Tensor:
    """Return the Taylor series of the Gaussian kernel ``(N, N)`` between vectors ``(N, D)`` brought to length 1."""
    x = unit(x)
    cosine = x @ x.T
    terms = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(terms).sum(0)


def cc(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2, strict_reference: bool = False) -> Tensor:
    """Return the mean squared difference of two kernels; with ``strict_reference`` that of RepDistiller.

    Args:
        student: embedding ``(N, D)``.
        teacher: embedding ``(N, D)``; here with a gradient, for it comes from a trained layer.
        gamma: width of the kernel.
        order: P, the last term of its series.
        strict_reference: products of the differences of adjacent samples instead; 0 for a single sample.
    """
    if strict_reference:
        difference = (student - teacher).abs()
        return (difference[:-1] * difference[1:]).sum() / max(len(student) - 1, 1)
    return (kernel(student, gamma, order) - kernel(teacher, gamma, order)).square().mean()


class CC(TapPair):
    """A kernel between samples, by embeddings of one vector on each side.

    Args:
        student_tap: name of the student's feature, a vector.
        teacher_tap: name of the teacher's feature, a vector.
        dim: length of both embeddings.
        gamma: gamma of the kernel.
        order: P, the order of its Taylor series.
        strict_reference: the loss that RepDistiller calls CC.
        gather: in a distributed run, compare the samples of all processes; else each process compares its own, which
            is another loss, of a smaller batch.

    Raises:
        ValueError: when ``dim`` or ``order`` is below 1, or ``gamma`` not above 0.
    """

    embed_student: nn.Module
    embed_teacher: nn.Module

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        dim: int = 128,
        gamma: float = 0.4,
        order: int = 2,
        strict_reference: bool = False,
        gather: bool = True,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        if min(dim, order) < 1 or not gamma > 0:
            raise ValueError(f"dim and order must be at least 1 and gamma above 0, got {dim}, {order} and {gamma:g}")
        self.dim = dim
        self.gamma = gamma
        self.order = order
        self.strict_reference = strict_reference
        self.gather = gather

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, other = self.vectors(student, teacher)
        self.embed_student, self.embed_teacher = nn.Linear(mine, self.dim), nn.Linear(other, self.dim)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.embedded(student, teacher)
        with full_precision(mine):
            mine, other = self.embed_student(mine), self.embed_teacher(other)
            if self.gather:
                mine, other = gather(mine), gather(other)
            return cc(mine, other, self.gamma, self.order, self.strict_reference)
