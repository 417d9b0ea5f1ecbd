"""SDD: KD of every region of the image at several scales, more where region and whole image disagree.

Wei, Luo and Luo, "Scale Decoupled Distillation", CVPR 2024 (arXiv:2403.13512), SD-KD: ``D_con + beta D_com``, the parts
of ``T^2 KL(softmax(t_r / T) || softmax(s_r / T))`` averaged over batch and regions r, s_r and t_r being the logits of
the mean of the last map over r. In D_com are the regions where the teacher's class is right and that of the whole map
is wrong, or the other way round; in D_con all others and the whole map.

Known to go wrong: the map must be the one whose mean the classifier reads, behind its last normalisation and ReLU, or
the regions have logits of something else. The authors' code sets the loss to 0 where it is not finite; here that shows.
Their code with DKD inside sums over the regions instead; only KD is offered here.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, find_spec, number, require_positive, require_same_classes, require_teacher
from distill.losses.soft import divergence, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule


def regions(scores: Tensor, scales: Sequence[int]) -> Tensor:
    """Return the class scores of every region ``(N, R, K)`` of maps of class scores ``(N, K, H, W)``.

    Args:
        scores: the classifier's answer at every position.
        scales: numbers of rows and columns that the map is cut into; R is the sum of their squares.
    """
    return torch.cat([F.adaptive_avg_pool2d(scores.float(), scale).flatten(2) for scale in scales], dim=2).mT


def disagrees(scores: Tensor, target: Tensor, scales: Sequence[int]) -> Tensor:
    """Return whether just one of a region and the whole map has the right class ``(N, R)``; arguments as in `sdd`."""
    whole = scores.float().mean(dim=(2, 3)).argmax(1) == target
    return (regions(scores, scales).argmax(2) == target[:, None]) != whole[:, None]


def sdd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    temperature: Heat,
    scales: Sequence[int],
    beta: float,
    t2: bool = True,
) -> Tensor:
    """Return the KL divergence from teacher to student, averaged over samples and regions, weighted by region.

    Args:
        student: class scores at every position ``(N, K, H, W)``.
        teacher: the same of the teacher, its map of any size; receives no gradient.
        target: class indices ``(N,)``.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        scales: numbers of rows and columns that the maps are cut into.
        beta: weight of the regions that disagree with the whole map.
        t2: multiply by T^2.
    """
    teacher = teacher.detach()
    mine, other = (regions(scores, scales).flatten(0, 1) for scores in (student, teacher))
    count = len(mine) // len(target)
    soft = soften(mine, other, _by_region(temperature, count), t2)
    weight = torch.where(disagrees(teacher, target, scales).flatten(), beta, 1.0)
    return divergence(F.log_softmax(soft.student, dim=1), F.log_softmax(soft.teacher, dim=1), weight * soft.factor)


def _by_region(temperature: Heat, count: int) -> Heat:
    """Return a temperature of each sample as one of each of its regions."""
    if isinstance(temperature, tuple):
        student, teacher = (t.repeat_interleave(count) if t.dim() else t for t in temperature)
        return student, teacher
    return (
        temperature.repeat_interleave(count) if isinstance(temperature, Tensor) and temperature.dim() else temperature
    )


class SDD(Loss):
    """KD of regions at several scales.

    Args:
        student_tap: tap ``map@classifier`` of the student, such as ``pool:in@fc``, see :mod:`distill.taps`.
        teacher_tap: the same of the teacher.
        temperature: T; divides both logits.
        scales: numbers of rows and columns that the maps are cut into; 1 is the whole map.
        beta: weight of the regions that disagree with the whole map.
        t2: multiply by T^2, which keeps the size of the gradient when T changes.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less, or a scale is below 1.
    """

    mixes: ClassVar[bool] = False

    def __init__(
        self,
        student_tap: str = "pool:in@fc",
        teacher_tap: str = "pool:in@fc",
        temperature: float | Schedule | Adaptive = 4.0,
        scales: Sequence[int] = (1, 2, 4),
        beta: float | Schedule = 2.0,
        t2: bool = True,
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        if not scales or min(scales) < 1:
            raise ValueError(f"scales must be whole numbers from 1, got {list(scales)}")
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.temperature = temperature
        self.scales = list(scales)
        self.beta = beta
        self.t2 = t2

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        taps = {"student": self.student_tap, "teacher": self.teacher_tap}
        shapes = [find_spec(specs, taps[s], s).shape for s, specs in (("student", student), ("teacher", teacher))]
        for name, shape, specs in zip(taps.values(), shapes, (student, teacher), strict=True):
            classes, most = specs["logits"].shape[-1], max(self.scales)
            if len(shape) != 3 or shape[0] != classes or min(shape[1:]) < most:
                raise ValueError(
                    f"taps {taps['student']!r} {shapes[0]} and {taps['teacher']!r} {shapes[1]}: {name!r} must be class "
                    f"scores at every position, ({classes}, height, width), at least {most} x {most} of them; "
                    "name a map and a linear layer, such as pool:in@fc, or smaller scales"
                )
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        maps = student.features[self.student_tap], teacher.features[self.teacher_tap]
        temperature = heat(self.temperature, student, teacher, batch)
        return sdd(*maps, batch.target, temperature, self.scales, number(self.beta), self.t2)
