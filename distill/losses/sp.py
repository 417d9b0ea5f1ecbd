"""SP: samples that the teacher finds similar should be similar to the student.

Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019 (arXiv:1907.09682), equations 2 to 4: with
``G = F F^T`` of flattened features and rows of length 1, ``||G_t - G_s||^2 / b^2``.

Known to go wrong: the value falls with the batch size, by the b^2 under b rows of length 1, so the weight (3000) is
for 64; a single sample has the value 0.
"""

from torch import Tensor

from distill.losses.gathering import gather
from distill.losses.tap_pair import TapPair, full_precision, unit
from distill.outputs import Batch, Outputs


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of the row-normalised similarities of samples.

    Args:
        student: feature ``(N, ...)``.
        teacher: feature ``(N, ...)``, of any shape; receives no gradient.
    """
    g_s, g_t = (unit(x @ x.T) for x in (student.float().flatten(1), teacher.detach().float().flatten(1)))
    return (g_s - g_t).square().mean()


class SP(TapPair):
    """Similarities between the samples of a batch, by one feature of any shape on each side.

    Args:
        student_tap: name of the student's feature; the last map in the paper.
        teacher_tap: name of the teacher's feature.
        gather: in a distributed run, compare the samples of all processes; else each process compares its own, which
            is another loss, of a smaller batch.
    """

    def __init__(self, student_tap: str = "stage3", teacher_tap: str = "stage3", gather: bool = True) -> None:
        super().__init__(student_tap, teacher_tap)
        self.gather = gather

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        if self.gather:
            mine, other = gather(mine), gather(other)
        with full_precision(mine):
            return sp(mine, other)
