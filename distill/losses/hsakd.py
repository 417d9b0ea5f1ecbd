"""HSAKD: after every stage, match the teacher on which class an image shows together with how it was turned.

Yang et al., "Hierarchical Self-supervised Augmented Knowledge Distillation", IJCAI 2021 (arXiv:2107.13715). Behind each
stage l of either network a classifier of its own gives q_l over 4 K joint labels of class and rotation. Over an image
and its three rotations: ``sum_l T^2 KL(q_t,l || q_s,l) + T^2 KL(p_t || p_s)``; the labels are left to ``ce``.

Known to go wrong: four times the images a step, so compare by cost. The authors train the teacher's classifiers
beforehand, either with the teacher or on a frozen one for 100 epochs; here they learn on the frozen teacher beside the
student, by cross-entropy with the joint labels, which reaches nothing else: the value holds it too. Let ``joint`` start
later, by a schedule, to leave their first epochs out. Their blocks are plain convolutions, one for each stage that is
left, where the authors repeat the network's own stages.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.connectors.layers import block
from distill.losses.base import (
    Loss,
    View,
    find_spec,
    number,
    require_positive,
    require_same_classes,
    require_teacher,
)  # fmt: skip
from distill.losses.kd import kd
from distill.losses.soft import heat
from distill.losses.sskd import ANGLES, ROTATIONS, rotations
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive
from distill.schedules.base import Schedule


def joint_labels(target: Tensor) -> Tensor:
    """Return labels ``4 y + k`` of classes ``(N,)`` turned k times, ``(4 N,)``: all unturned, then all turned once."""
    return torch.cat([(ANGLES + 1) * target + k for k in range(ANGLES + 1)])


def _classifier(shapes: Sequence[tuple[int, ...]], labels: int) -> nn.Module:
    """Return what classifies the first of several maps, by way of the sizes of those after it."""
    sizes = list(pairwise(shapes)) or [(shapes[0], shapes[0])]
    layers = [block(a[0], b[0], 3, -(-a[1] // b[1])) for a, b in sizes]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(sizes[-1][1][0], labels))


def whole(outputs: Outputs, taps: Sequence[str]) -> Outputs:
    """Return what was said of images and, behind, of those that are turned, as one batch."""
    turned = outputs.views[ROTATIONS]
    features = {tap: torch.cat([outputs.features[tap], turned.features[tap]]) for tap in taps}
    return Outputs(torch.cat([outputs.logits, turned.logits]), features)


class HSAKD(Loss):
    """Self-supervision augmented distillation at every stage.

    Args:
        student_stages: maps of the student, from the first to the last.
        teacher_stages: as many maps of the teacher.
        temperature: T of everything that is matched.
        joint: weight of the joint labels of all stages.
        classes: weight of the classes of images that are turned or not.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less, or the stages are not as many.
    """

    mixes: ClassVar[bool] = False

    def __init__(
        self,
        student_stages: list[str],
        teacher_stages: list[str],
        temperature: float | Schedule | Adaptive = 3.0,
        joint: float | Schedule = 1.0,
        classes: float | Schedule = 1.0,
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        if len(student_stages) != len(teacher_stages) or not student_stages:
            raise ValueError(f"student_stages {student_stages} and teacher_stages {teacher_stages} must be as many")
        self.student_stages, self.teacher_stages = list(student_stages), list(teacher_stages)
        self.temperature = temperature
        self.joint, self.classes = joint, classes
        self.student_heads, self.teacher_heads = nn.ModuleList(), nn.ModuleList()

    def views(self) -> Mapping[str, View]:
        return {ROTATIONS: rotations}

    def student_taps(self) -> tuple[str, ...]:
        return tuple(self.student_stages)

    def teacher_taps(self) -> tuple[str, ...]:
        return tuple(self.teacher_stages)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = [find_spec(student, tap, "student").shape for tap in self.student_stages]
        other = [find_spec(teacher, tap, "teacher").shape for tap in self.teacher_stages]
        for side, taps, shapes in (("student", self.student_stages, mine), ("teacher", self.teacher_stages, other)):
            shrinks = all(len(s) == 3 for s in shapes) and all(a[1] >= b[1] for a, b in pairwise(shapes))
            if not shrinks:
                raise ValueError(
                    f"{side}_stages {taps} have the shapes {shapes} (student taps {self.student_stages}, {mine}); name "
                    "maps, from the largest to the smallest"
                )
        require_same_classes(student, teacher)
        labels = (ANGLES + 1) * find_spec(student, "logits", "student").shape[0]
        for heads, shapes in ((self.student_heads, mine), (self.teacher_heads, other)):
            heads.extend(_classifier(shapes[stage:], labels) for stage in range(len(shapes)))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = whole(student, self.student_stages), whole(require_teacher(teacher), self.teacher_stages)
        labels = joint_labels(batch.target)
        temperature = heat(self.temperature, mine, other, batch._replace(target=batch.target.repeat(ANGLES + 1)))
        joint, told = [], []
        with torch.autocast(mine.logits.device.type, enabled=False):
            for stage, (tap_s, tap_t) in enumerate(zip(self.student_stages, self.teacher_stages, strict=True)):
                q_s = self.student_heads[stage](mine.features[tap_s].float())
                # a teacher's features come from inference mode, which no graph may keep
                q_t = self.teacher_heads[stage](other.features[tap_t].detach().clone().float())
                joint.append(kd(q_s, q_t, temperature))
                told.append(F.cross_entropy(q_t, labels))
        classes = kd(mine.logits, other.logits, temperature)
        return number(self.joint) * torch.stack(joint).sum() + number(self.classes) * classes + torch.stack(told).sum()
