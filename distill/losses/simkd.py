"""SimKD: learn the teacher's last feature map, and classify it with the teacher's own classifier.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022 (arXiv:2203.14001):
``mean (P(f_s) - f_t)^2``, P a bottleneck of 1x1, 3x3 and 1x1 convolutions that is a part of the student afterwards, as
is the classifier, which is never trained. Nothing else is: no labels, ``loss=[simkd]``.

Known to go wrong: the student that is shipped is larger than the one that was asked for, by P and the wider
classifier; the record counts both, and a comparison with other methods has to as well.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.grafts import Wish
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Specs


def simkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of two feature maps.

    Args:
        student: projected map ``(N, C, H, W)``.
        teacher: map ``(N, C, H', W')``, averaged down to the student's size; receives no gradient.
    """
    told = F.adaptive_avg_pool2d(teacher.detach().float(), (student.shape[2], student.shape[3]))
    return (student.float() - told).square().mean()


class SimKD(Loss):
    """The teacher's last map through a projector, under the teacher's classifier.

    Args:
        student_tap: map that the student averages for its classifier; the projector stands behind it.
        teacher_tap: map that the teacher averages for its classifier.
        factor: the projector has this many times fewer channels inside than the teacher's map.
        student_classifier: module path of the classifier that is replaced; None for the last linear layer.
        teacher_classifier: module path of the classifier that replaces it; None for the last linear layer.

    Raises:
        ValueError: when factor is below 1.
    """

    def __init__(
        self,
        student_tap: str = "final",
        teacher_tap: str = "final",
        factor: int = 2,
        student_classifier: str | None = None,
        teacher_classifier: str | None = None,
    ) -> None:
        super().__init__()
        if factor < 1:
            raise ValueError(f"factor must be at least 1, got {factor}")
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.wish = Wish(student_tap, teacher_tap, factor, student_classifier, teacher_classifier)

    def grafts(self) -> Wish:
        return self.wish

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student").shape
        other = find_spec(teacher, self.teacher_tap, "teacher").shape
        smaller = len(mine) == len(other) == 3 and all(a <= b for a, b in zip(mine[1:], other[1:], strict=True))
        if not smaller or mine[0] != other[0]:
            raise ValueError(
                f"student tap {self.student_tap!r} gives {mine} behind the projector and teacher tap "
                f"{self.teacher_tap!r} {other}; both must be maps, of as many channels"
            )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return simkd(student.features[self.student_tap], require_teacher(teacher).features[self.teacher_tap])
