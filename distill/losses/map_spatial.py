"""Spatial map alignment: match where in the image the teacher finds each class, a distribution over places by class.

Cross-modal attention alignment as this project defines it, 2026, after the attention losses of DiDE (Wang et al., EMNLP
2022, arXiv:2112.08723) and the dense CLIP scores of MaskCLIP (Zhou et al., ECCV 2022, arXiv:2112.01071): with cosines S
of places n and class texts k, ``A[k, n] = softmax_n((S[n, k] - mean_k S[n, k]) / tau)`` on both sides and
``sum_k w[k] KL(A_t[k] || A_s[k])``, averaged over the batch; w is how relevant a class is to the image.

Known to go wrong: a raw last-layer map of CLIP (``teacher_tap=dense_last_hidden``) is often inverted and takes the
student's own localisation away, so look at ``map/teacher_pointing`` first; from the first step it disturbs learning, so
its weight is ramped in. A student that pools its map linearly has a class map by its logits alone.
"""

from __future__ import annotations

from torch import Tensor

from distill.losses.base import number, require_positive
from distill.losses.image_text import ClassVectors, class_vectors
from distill.losses.maps import MapLoss, Relevance, relevance, require_relevance, scores
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs, TrainingSet
from distill.schedules.base import Schedule


def attention(maps: Tensor, text: Tensor, tau: float, centred: bool) -> Tensor:
    """Return the logarithm of the distribution over places of each class ``(N, K, h w)``.

    Args:
        maps: embeddings of length 1 ``(N, D, h, w)``.
        text: text vectors of length 1 ``(K, D)``.
        tau: of the softmax.
        centred: take the mean over classes out of the scores.
    """
    return (scores(maps, text, centred).flatten(2) / tau).log_softmax(2)


def map_spatial(
    student: Tensor, teacher: Tensor, text: Tensor, found: Relevance, tau: float, centred: bool = True
) -> Tensor:
    """Return the divergence of the distributions over places, weighted by class, averaged over the batch.

    Args:
        student: embeddings of length 1 ``(N, D, h, w)``.
        teacher: those of the teacher on the same grid; receive no gradient.
        text: text vectors of length 1 ``(K, D)``.
        found: which classes count, and how much.
        tau: of the softmax over places.
        centred: take the mean over classes out of the scores.
    """
    log_s = _chosen(attention(student, text, tau, centred), found)
    log_t = _chosen(attention(teacher.detach(), text, tau, centred), found)
    divergence = (log_t.exp() * (log_t - log_s)).sum(2)
    return (found.weight * divergence).sum(1).mean()


def _chosen(log: Tensor, found: Relevance) -> Tensor:
    return log if found.classes is None else log.gather(1, found.classes[:, :, None].expand(-1, -1, log.shape[2]))


class MapSpatial(MapLoss):
    """Where each class is.

    Args:
        student_tap: the student's map, or tokens of a grid, as wide as the teacher's.
        teacher_tap: the teacher's.
        tau: of the softmax over places.
        centred: take the mean over classes out of the scores.
        grid: places on which both are compared, ``"coarse"``, ``"teacher"`` or ``"student"``.
        relevance: how much each class counts: ``"teacher"`` as probable as it finds it, ``"top_k"``, ``"label"``,
            ``"uniform"``.
        top_k: how many classes count for ``relevance=top_k``.

    Raises:
        ValueError: for another grid or relevance, or a tau that is not above 0.
    """

    def __init__(
        self,
        student_tap: str = "dense",
        teacher_tap: str = "dense_value",
        tau: float | Schedule = 0.07,
        centred: bool = True,
        grid: str = "coarse",
        relevance: str = "teacher",
        top_k: int = 5,
    ) -> None:
        super().__init__(student_tap, teacher_tap, grid)
        require_positive("tau", tau)
        require_relevance(relevance, top_k)
        self.tau, self.centred, self.relevance, self.top_k = tau, centred, relevance, top_k
        self.classes: ClassVectors | None = None

    def meet(self, data: TrainingSet) -> None:
        self.classes = class_vectors(data, self.teacher_tap)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            mine, other = self.joined(student, teacher)
            assert teacher is not None
            assert self.classes is not None
            found = relevance(self.relevance, teacher.logits, batch.target, batch.mix, self.top_k)
            return map_spatial(mine, other, self.classes.text, found, number(self.tau), self.centred)
