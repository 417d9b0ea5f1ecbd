"""SSKD: match the teacher on rotated images, in its classes and in which rotated image belongs to which.

Xu et al., "Knowledge Distillation Meets Self-Supervision", ECCV 2020 (arXiv:2006.07114), equations 4 to 8. With A the
cosines of head(features of the 3 N rotated images) and head(features of the N images), ``(3 N, N)``:
``tf T^2 KL(softmax(z_t / T) || softmax(z_s / T)) + ss tau^2 KL(softmax(A_t / tau) || softmax(A_s / tau))``,
over the rotated images that the teacher gets right and the share of the others that it gets least wrong.

Known to go wrong: four times the images a step, so compare by cost; published rows use other teachers and no mirroring.
The paper trains the teacher's head beforehand, for 60 epochs on a frozen network; here it learns beside the student, by
a loss of its own that reaches nothing else; let ``ss`` start later, by a schedule, to leave its first epochs out.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import (
    Loss,
    View,
    find_spec,
    number,
    require_positive,
    require_same_classes,
    require_teacher,
)  # fmt: skip
from distill.losses.soft import heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive
from distill.schedules.base import Schedule

ROTATIONS = "rotations"
ANGLES = 3
"""Rotated images of each image: by 90, 180 and 270 degrees."""


def rotations(batch: Batch) -> Tensor:
    """Return the images ``(3 N, C, H, H)`` of a batch, all turned by 90 degrees, then by 180, then by 270.

    Raises:
        ValueError: when they are not square.
    """
    if batch.inputs.shape[-1] != batch.inputs.shape[-2]:
        raise ValueError(f"this loss turns images, which must be square, not {tuple(batch.inputs.shape[-2:])}")
    return torch.cat([batch.inputs.rot90(k, (-2, -1)) for k in range(1, ANGLES + 1)])


def cosines(turned: Tensor, plain: Tensor) -> Tensor:
    """Return the cosine of each row of ``(M, D)`` with each of ``(N, D)`` as ``(M, N)``; 0 for a row of zeros."""
    return F.normalize(turned, dim=1) @ F.normalize(plain, dim=1).mT


def kept(scores: Tensor, target: Tensor, ratio: float) -> Tensor:
    """Return which rows the student listens to ``(M,)``: those the teacher gets right, and some of the others.

    Args:
        scores: of the teacher ``(M, K)``.
        target: what is right ``(M,)``.
        ratio: share of the wrong rows that is kept, those where the right one is ranked highest.
    """
    right = scores.gather(1, target[:, None])
    rank = (scores > right).sum(1)
    wrong = (rank > 0).sum()
    count = len(rank) - wrong + (ratio * wrong).floor().long()
    place = rank.argsort(stable=True).argsort()
    return place < count


def transfer(student: Tensor, teacher: Tensor, keep: Tensor, factor: float | Tensor) -> Tensor:
    """Return the KL divergence of softmax rows ``(M, K)``, each times its factor, averaged over those that are kept."""
    log_s, log_t = F.log_softmax(student, dim=1), F.log_softmax(teacher, dim=1)
    rows = factor * F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(1)
    return torch.where(keep, rows, 0.0).sum() / keep.sum().clamp(min=1)


def _head(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


class SSKD(Loss):
    """Distillation with self-supervision as an auxiliary task.

    Args:
        student_tap: vector that the student's head reads.
        teacher_tap: vector that the teacher's head reads.
        temperature: T of the classes of rotated images.
        ss_temperature: tau of the cosines.
        tf: weight of the classes of rotated images.
        ss: weight of the cosines.
        ratio_tf: share of rotated images that the teacher classifies wrongly which are kept, least wrong first.
        ratio_ss: share of rotated images that the teacher assigns wrongly which are kept, least wrong first.

    Raises:
        ValueError: when a temperature is, or at any time becomes, 0 or less, or a ratio is outside [0, 1].
    """

    mixes: ClassVar[bool] = False
    student_head: nn.Module
    teacher_head: nn.Module

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        temperature: float | Schedule | Adaptive = 4.0,
        ss_temperature: float = 0.5,
        tf: float | Schedule = 2.7,
        ss: float | Schedule = 10.0,
        ratio_tf: float = 1.0,
        ratio_ss: float = 0.75,
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        require_positive("ss_temperature", ss_temperature)
        for name, ratio in (("ratio_tf", ratio_tf), ("ratio_ss", ratio_ss)):
            if not 0 <= ratio <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {ratio:g}")
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.temperature = temperature
        self.ss_temperature = ss_temperature
        self.tf, self.ss = tf, ss
        self.ratio_tf, self.ratio_ss = ratio_tf, ratio_ss

    def views(self) -> Mapping[str, View]:
        return {ROTATIONS: rotations}

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student").shape
        other = find_spec(teacher, self.teacher_tap, "teacher").shape
        if len(mine) != 1 or len(other) != 1:
            raise ValueError(
                f"the heads read vectors, but student tap {self.student_tap!r} has shape {mine} and teacher tap "
                f"{self.teacher_tap!r} {other}; choose taps such as pooled"
            )
        require_same_classes(student, teacher)
        self.student_head, self.teacher_head = _head(mine[0]), _head(other[0])

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        mine, other = student.views[ROTATIONS], teacher.views[ROTATIONS]
        n = len(batch.target)
        target = batch.target.repeat(ANGLES)
        soft = soften(mine.logits, other.logits, heat(self.temperature, mine, other, batch._replace(target=target)))
        classes = transfer(soft.student, soft.teacher, kept(other.logits, target, self.ratio_tf), soft.factor)
        with torch.autocast(student.logits.device.type, enabled=False):
            a_s = self._cosines(self.student_head, self.student_tap, mine, student)
            a_t = self._cosines(self.teacher_head, self.teacher_tap, other, teacher, detach=True)
        tau, source = self.ss_temperature, torch.arange(n, device=target.device).repeat(ANGLES)
        told = a_t.detach()
        matching = transfer(a_s / tau, told / tau, kept(told, source, self.ratio_ss), tau**2)
        # reaches the teacher's head alone
        head = F.cross_entropy(a_t / tau, source)
        return number(self.tf) * classes + number(self.ss) * matching + head

    def _cosines(self, head: nn.Module, tap: str, turned: Outputs, plain: Outputs, detach: bool = False) -> Tensor:
        pair = [one.features[tap].float() for one in (turned, plain)]
        # a teacher's features come from inference mode, which no graph may keep
        first, second = (one.detach().clone() if detach else one for one in pair)
        return cosines(head(first), head(second))
