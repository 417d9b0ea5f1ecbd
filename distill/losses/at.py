"""AT: match where the maps of both networks are active.

Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017 (arXiv:1612.03928), equation 2 with the
attention map ``Q = vec(mean_c |A_c|^p)``: ``1/2 sum_j || Q_s / |Q_s| - Q_t / |Q_t| ||_2``, averaged over the batch. The
beta of section 4 is 1000 over the number of positions of the map: the division is in here, the 1000 is the weight.

Known to go wrong: public code, the authors' too, squares the norm and leaves out the half, which pulls less the nearer
the student is (``strict_reference``); the weights 1000 of the CIFAR-100 tables belong to that form.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.paired import Paired, same_size
from distill.outputs import Batch, Outputs, Specs


def attention(feature: Tensor, power: float) -> Tensor:
    """Return the attention map ``(N, H W)`` of a map ``(N, C, H, W)``, of unit length, or 0 where the map is 0."""
    energy = feature.square() if power == 2 else feature.abs().pow(power)
    return F.normalize(energy.mean(1).flatten(1), dim=1)


def at(student: Tensor, teacher: Tensor, power: float, strict_reference: bool = False) -> Tensor:
    """Return the distance of the attention maps of one pair.

    Args:
        student: map ``(N, C, H, W)``.
        teacher: map ``(N, C', H', W')``; the larger of both is averaged to the smaller; receives no gradient.
        power: p, at least 1.
        strict_reference: mean of squared differences, as public code has it.
    """
    student, teacher = same_size(student.float(), teacher.detach().float())
    difference = attention(student, power) - attention(teacher, power)
    if strict_reference:
        return difference.square().mean()
    return torch.linalg.vector_norm(difference, dim=1).mean() / (2 * difference.shape[1])


class AT(Paired):
    """Attention transfer.

    Args:
        student_taps: maps of the student, shallow to deep.
        teacher_taps: maps of the teacher in the same order.
        power: p, to which activations are raised before their mean over channels.
        strict_reference: mean of squared differences, as public code has it.

    Raises:
        ValueError: when the numbers of taps differ or the power is below 1.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        power: float = 2.0,
        strict_reference: bool = False,
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        if not power >= 1:
            raise ValueError(f"power must be at least 1, got {power:g}: below, the gradient at 0 is infinite")
        self.power = power
        self.strict_reference = strict_reference

    def prepare(self, student: Specs, teacher: Specs) -> None:
        for pair in self.pairs(student, teacher):
            pair.require_maps()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        pairs = self.features(student, teacher)
        return torch.stack([at(s, t, self.power, self.strict_reference) for s, t in pairs]).sum()
