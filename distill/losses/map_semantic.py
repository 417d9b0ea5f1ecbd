"""Semantic map alignment: match which class the teacher finds at each place, a distribution over classes by place.

Cross-modal attention alignment as this project defines it, 2026, after the dense CLIP scores of MaskCLIP (Zhou et al.,
ECCV 2022, arXiv:2112.01071): with cosines S of places n and class texts k, ``C[n] = softmax_k(s S[n])`` on both sides
and ``mean_n KL(C_t[n] || C_s[n])``, averaged over the batch; s is the teacher's scale unless a smaller one is given.

Known to go wrong: most places are background, of which the teacher has no name and a guess for each; ``foreground``
weighs a place by how surely any class is there. At a small budget it costs zero-shot accuracy and buys localisation. A
raw last-layer map of CLIP is often inverted: look at ``map/teacher_patch_class`` first.
"""

from __future__ import annotations

from torch import Tensor

from distill.losses.base import require_positive
from distill.losses.image_text import ClassVectors, class_vectors
from distill.losses.map_spatial import attention
from distill.losses.maps import MapLoss, scores
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs, TrainingSet


def map_semantic(student: Tensor, teacher: Tensor, text: Tensor, scale: float, weight: Tensor | None = None) -> Tensor:
    """Return the divergence of the distributions over classes, averaged over places and the batch.

    Args:
        student: embeddings of length 1 ``(N, D, h, w)``.
        teacher: those of the teacher on the same grid; receive no gradient.
        text: text vectors of length 1 ``(K, D)``.
        scale: s, what cosines are multiplied by.
        weight: of the places ``(N, h w)``, of sum 1; None for the mean.
    """
    log_s, log_t = (
        (scale * scores(maps, text, centred=False).flatten(2)).log_softmax(1) for maps in (student, teacher.detach())
    )
    divergence = (log_t.exp() * (log_t - log_s)).sum(1)
    return (divergence.mean(1) if weight is None else (weight * divergence).sum(1)).mean()


def foreground(teacher: Tensor, text: Tensor, tau: float) -> Tensor:
    """Return how surely any class is at each place ``(N, h w)``: ``max_k A_t[k, n]``, of sum 1."""
    most = attention(teacher.detach(), text, tau, centred=True).amax(1)
    return most.softmax(1)


class MapSemantic(MapLoss):
    """Which class is where.

    Args:
        student_tap: the student's map, or tokens of a grid, as wide as the teacher's.
        teacher_tap: the teacher's.
        scale: s, of the softmax over classes; None for the teacher's own.
        grid: places on which both are compared, ``"coarse"``, ``"teacher"`` or ``"student"``.
        foreground: weigh a place by how surely any class is there, instead of all alike.
        tau: of the softmax over places that the foreground is found by.

    Raises:
        ValueError: for another grid, or a scale or tau that is not above 0.
    """

    def __init__(
        self,
        student_tap: str = "dense",
        teacher_tap: str = "dense_value",
        scale: float | None = None,
        grid: str = "coarse",
        foreground: bool = False,
        tau: float = 0.07,
    ) -> None:
        super().__init__(student_tap, teacher_tap, grid)
        require_positive("tau", tau)
        if scale is not None:
            require_positive("scale", scale)
        self.scale, self.foreground, self.tau = scale, foreground, tau
        self.classes: ClassVectors | None = None

    def meet(self, data: TrainingSet) -> None:
        self.classes = class_vectors(data, self.teacher_tap)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            mine, other = self.joined(student, teacher)
            assert self.classes is not None
            text = self.classes.text
            scale = self.classes.scale if self.scale is None else self.scale
            weight = foreground(other, text, self.tau) if self.foreground else None
            return map_semantic(mine, other, text, scale, weight)
