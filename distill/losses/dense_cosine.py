"""Dense cosine: turn the student's embedding of each place to that of the teacher.

Wu et al., "CLIPSelf: Vision Transformer Distills Itself for Open-Vocabulary Dense Prediction", ICLR 2024
(arXiv:2310.01403), its distance of region features taken place by place: ``mean_n (1 - cos(U[n], P[n]))`` of the
student's map U and the teacher's P, averaged over the batch.

Known to go wrong: it copies the teacher's map, whatever that is worth; a raw last-layer map of CLIP is often inverted.
It takes no texts, so it says nothing of which directions matter to the classes.
"""

from torch import Tensor

from distill.losses.maps import MapLoss
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def dense_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Return one minus the cosine, averaged over places and the batch.

    Args:
        student: embeddings of length 1 ``(N, D, h, w)``.
        teacher: those of the teacher on the same grid; receive no gradient.
    """
    return 1 - (student * teacher.detach()).sum(1).mean()


class DenseCosine(MapLoss):
    """Cosines of two maps.

    Args:
        student_tap: the student's map, or tokens of a grid, as wide as the teacher's.
        teacher_tap: the teacher's.
        grid: places on which both are compared, ``"coarse"``, ``"teacher"`` or ``"student"``.

    Raises:
        ValueError: for another grid.
    """

    def __init__(self, student_tap: str = "dense", teacher_tap: str = "dense_value", grid: str = "coarse") -> None:
        super().__init__(student_tap, teacher_tap, grid)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            return dense_cosine(*self.joined(student, teacher))
