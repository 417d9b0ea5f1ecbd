"""MGD: make the teacher's whole feature map out of the student's with parts of it masked.

Yang et al., "Masked Generative Distillation", ECCV 2022 (arXiv:2205.01529), equations 2 to 5:
``sum_k,i,j (f_t - G(M * align(f_s)))^2``, averaged over the batch, with ``M_i,j`` 0 where a uniform number is below the
ratio and 1 elsewhere, and G two 3x3 convolutions with a ReLU between.

Known to go wrong: the value is a sum over channels and pixels, so its weight (7e-5) hangs on the size of the map; the
published code for classification masks whole channels, that for detection pixels (``strict_reference``).
"""

import torch
from torch import Tensor, nn

from distill.connectors import connect
from distill.connectors.forms import as_map, map_shape
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Spec, Specs


def mgd(student: Tensor, teacher: Tensor, mask: Tensor, generate: nn.Module) -> Tensor:
    """Return the squared error of the teacher's map as generated from a masked one, summed by sample, averaged.

    Args:
        student: aligned maps ``(N, C, H, W)``.
        teacher: maps ``(N, C, H, W)``; receives no gradient.
        mask: 0 and 1, ``(N, 1, H, W)`` for pixels or ``(N, C, 1, 1)`` for channels.
        generate: maps ``(N, C, H, W)`` to the same shape.
    """
    made: Tensor = generate(student.float() * mask)
    return (made - teacher.detach().float()).square().sum((1, 2, 3)).mean()


class MGD(Loss):
    """Generates the teacher's map from a masked map of the student.

    The mask is drawn from torch's generators, which the training seeds anew in every step.

    Args:
        student_tap: name of the student's feature.
        teacher_tap: name of the teacher's feature: a map, or tokens with a grid.
        ratio: what part is masked, in [0, 1).
        connector: aligns the student's feature, see :func:`distill.connectors.connect`; equal shapes need none.
        strict_reference: mask channels instead of pixels, as the published code does for classification.

    Raises:
        ValueError: when the ratio is not in [0, 1).
    """

    align: nn.Module
    generate: nn.Module

    def __init__(
        self,
        student_tap: str = "stage3",
        teacher_tap: str = "stage3",
        ratio: float = 0.15,
        connector: str = "linear",
        strict_reference: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= ratio < 1:
            raise ValueError(f"ratio must be in [0, 1), got {ratio:g}")
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.ratio, self.kind, self.by_channel = ratio, connector, strict_reference
        self.goal = Spec(())

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student")
        self.goal = find_spec(teacher, self.teacher_tap, "teacher")
        shape = map_shape(self.goal) if len(self.goal.shape) > 1 else None
        if shape is None:
            raise ValueError(
                f"teacher tap {self.teacher_tap!r} of shape {self.goal.shape} is no map and has no grid; student tap "
                f"{self.student_tap!r} of shape {mine.shape} cannot generate it; choose a map or tokens"
            )
        kind = "identity" if mine.shape == shape else self.kind
        self.align = connect(mine, Spec(shape), kind, self.student_tap, self.teacher_tap)
        width = shape[0]
        self.generate = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        feature = student.features[self.student_tap]
        with torch.autocast(feature.device.type, enabled=False):
            aligned = self.align(feature.float())
            samples, width, *size = aligned.shape
            shape = (samples, width, 1, 1) if self.by_channel else (samples, 1, *size)
            mask = (torch.rand(shape, device=aligned.device) >= self.ratio).float()
            goal = as_map(require_teacher(teacher).features[self.teacher_tap], self.goal)
            return mgd(aligned, goal, mask, self.generate)
