"""FitNet: match one intermediate feature of the teacher through a trained regressor.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015 (arXiv:1412.6550), equation 3, in the single-stage form of
the CIFAR-100 tables: ``mean (r(f_s) - f_t)^2`` over batch, channels and positions, beside the other terms.

Known to go wrong: the value is a mean, so its weight (100) is not that of the paper's halved sum; the regressor ends in
a ReLU and cannot reach the negative entries of a teacher tap from before the activation (take ``projector`` there).
"""

import torch
from torch import Tensor, nn

from distill.connectors import connect
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Specs


def fitnet(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of two features.

    Args:
        student: connected feature, any shape.
        teacher: feature of the same shape; receives no gradient.
    """
    return (student.float() - teacher.detach().float()).square().mean()


class FitNet(Loss):
    """Hint from one teacher feature to one student feature.

    Args:
        student_tap: name of the student's feature.
        teacher_tap: name of the teacher's feature.
        connector: one of :data:`distill.connectors.KINDS`, see :func:`distill.connectors.connect`.
    """

    connector: nn.Module

    def __init__(self, student_tap: str = "stage2", teacher_tap: str = "stage2", connector: str = "regressor") -> None:
        super().__init__()
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.kind = connector

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student")
        other = find_spec(teacher, self.teacher_tap, "teacher")
        self.connector = connect(mine, other, self.kind, self.student_tap, self.teacher_tap)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        feature = student.features[self.student_tap]
        with torch.autocast(feature.device.type, enabled=False):
            connected = self.connector(feature.float())
            return fitnet(connected, require_teacher(teacher).features[self.teacher_tap])
