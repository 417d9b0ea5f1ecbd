"""ICKD: match how the channels of a feature map go together within each image.

Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation", ICCV 2021
(arXiv:2202.03680): ``G = F F^T`` of channels over positions, rows of length 1, ``||G_t - G_s||^2 / c`` averaged over
the batch, with the student's map brought to the teacher's channels by a 1x1 convolution and batch norm.

Known to go wrong: values and weight (2.5) are those of the authors' CIFAR-100 code; torchdistill divides by the batch
size once more and weighs 500. There are c^2 numbers an image: 2048 channels take 16 MB of float32.
"""

from torch import Tensor, nn

from distill.connectors import connect
from distill.losses.tap_pair import TapPair, full_precision, unit
from distill.outputs import Batch, Outputs, Spec, Specs


def ickd(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared difference of row-normalised channel similarities, summed over a row, averaged over the rest.

    Args:
        student: map ``(N, C, H, W)``.
        teacher: map ``(N, C, H', W')``; receives no gradient.
    """
    f_s, f_t = student.float().flatten(2), teacher.detach().float().flatten(2)
    g_s, g_t = (unit(f @ f.transpose(1, 2), dim=2) for f in (f_s, f_t))
    return (g_s - g_t).square().sum(2).mean()


class ICKD(TapPair):
    """Similarities between the channels of one map, image by image.

    Args:
        student_tap: name of the student's map; the last one in the paper.
        teacher_tap: name of the teacher's map, of any height and width.
    """

    connector: nn.Module

    def __init__(self, student_tap: str = "stage3", teacher_tap: str = "stage3") -> None:
        super().__init__(student_tap, teacher_tap)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, other = self.specs(student, teacher)
        if len(mine.shape) != 3 or len(other.shape) != 3:
            raise ValueError(
                f"needs maps (C, H, W), and student tap {self.student_tap!r} has shape {mine.shape}, teacher tap "
                f"{self.teacher_tap!r} {other.shape}; choose taps before pooling"
            )
        goal = Spec((other.shape[0], *mine.shape[1:]))
        self.connector = connect(mine, goal, "projector", self.student_tap, self.teacher_tap)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        with full_precision(mine):
            return ickd(self.connector(mine), other)
