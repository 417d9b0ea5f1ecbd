"""MapLoss: what losses over dense maps in an image-text space have in common: one grid, scores by class, relevance."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.connectors.forms import as_map, grid_of
from distill.losses.base import Loss, find_spec, require_teacher
from distill.losses.image_text import require_one_space
from distill.losses.tap_pair import unit
from distill.outputs import Mix, Outputs, Spec, Specs

GRIDS = ("coarse", "teacher", "student")
RELEVANCES = ("teacher", "label", "top_k", "uniform")


def joint_size(student: tuple[int, int], teacher: tuple[int, int], grid: str) -> tuple[int, int]:
    """Return height and width of the grid that two maps are compared on: ``"coarse"`` is the smaller of each."""
    if grid == "coarse":
        return min(student[0], teacher[0]), min(student[1], teacher[1])
    return teacher if grid == "teacher" else student


def resample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return embeddings ``(N, D, h, w)`` on another grid, of length 1 at each place before and after.

    Averaged over the places that a larger one covers where the grid shrinks, bilinear where it grows. It is the
    embeddings that are resampled and never what a softmax makes of them, which would have to be normalised again.
    """
    maps = unit(maps)
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    smaller = min(height, size[0]), min(width, size[1])
    maps = F.adaptive_avg_pool2d(maps, smaller) if smaller != (height, width) else maps
    if smaller != size:
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
    return unit(maps)


def scores(maps: Tensor, text: Tensor, centred: bool = True) -> Tensor:
    """Return cosines by class and place ``(N, K, h, w)``.

    Args:
        maps: embeddings of length 1 ``(N, D, h, w)``.
        text: text vectors of length 1 ``(K, D)``.
        centred: less their mean over the classes, which takes out the direction that all texts share and that makes
            the maps of all classes look alike.
    """
    return torch.einsum("ndhw,kd->nkhw", maps, text - text.mean(0) if centred else text)


class Relevance(NamedTuple):
    """Which classes of each sample count, and how much.

    Attributes:
        weight: ``(N, k)``, of sum 1.
        classes: class indices ``(N, k)``; None for all K in order.
    """

    weight: Tensor
    classes: Tensor | None


def relevance(kind: str, logits: Tensor, target: Tensor, mix: Mix | None, top_k: int) -> Relevance:
    """Return how much the map of each class counts.

    Args:
        kind: ``"teacher"``: as probable as the teacher's logits make it; ``"top_k"``: likewise, the k most probable
            alone; ``"label"``: the class of the image, of a mixed one both by their share; ``"uniform"``: all alike.
        logits: zero-shot logits of the teacher ``(N, K)``.
        target: classes ``(N,)``.
        mix: how images were mixed.
        top_k: how many classes count for ``"top_k"``.
    """
    probability = logits.detach().float().softmax(1)
    if kind == "uniform":
        return Relevance(torch.full_like(probability, 1 / probability.shape[1]), None)
    if kind == "top_k":
        found = probability.topk(min(top_k, probability.shape[1]), 1)
        return Relevance(found.values / found.values.sum(1, keepdim=True), found.indices)
    if kind == "teacher":
        return Relevance(probability, None)
    if mix is None:
        return Relevance(probability.new_ones(len(target), 1), target[:, None])
    return Relevance(torch.stack([mix.share, 1 - mix.share], 1), torch.stack([target, mix.target], 1))


class MapLoss(Loss):
    """Base of losses over a map of each side in the teacher's embedding space.

    Args:
        student_tap: the student's map, or tokens of a grid, as wide as the teacher's.
        teacher_tap: the teacher's.
        grid: places on which they are compared: ``"coarse"`` the smaller, ``"teacher"`` or ``"student"`` that of one.

    Raises:
        ValueError: for another grid.
    """

    def __init__(self, student_tap: str, teacher_tap: str, grid: str) -> None:
        super().__init__()
        if grid not in GRIDS:
            raise ValueError(f"grid must be one of {', '.join(GRIDS)}, got {grid!r}")
        self.student_tap, self.teacher_tap, self.grid = student_tap, teacher_tap, grid
        self.specs = Spec(()), Spec(())

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student")
        other = find_spec(teacher, self.teacher_tap, "teacher")
        for side, tap, spec in (("student", self.student_tap, mine), ("teacher", self.teacher_tap, other)):
            if grid_of(spec) in (None, (1, 1)):
                raise ValueError(
                    f"{side} tap {tap!r} of shape {spec.shape} has no spatial extent (student tap {self.student_tap!r} "
                    f"{mine.shape}, teacher tap {self.teacher_tap!r} {other.shape}); take maps such as the student's "
                    "dense and the teacher's dense_value"
                )
        require_one_space(student, teacher, self.student_tap, self.teacher_tap, vectors=False)
        self.specs = mine, other

    def joined(self, student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
        """Return both maps ``(N, D, h, w)`` on one grid, float32, of length 1 at each place, the teacher's detached."""
        teacher = require_teacher(teacher)
        mine = as_map(student.features[self.student_tap].float(), self.specs[0])
        other = as_map(teacher.features[self.teacher_tap].detach().float(), self.specs[1])
        one, two = ((int(m.shape[-2]), int(m.shape[-1])) for m in (mine, other))
        size = joint_size(one, two, self.grid)
        return resample(mine, size), resample(other, size)


def require_relevance(kind: str, top_k: int) -> None:
    """Refuse another kind of relevance, or no class at all.

    Raises:
        ValueError: names the argument.
    """
    if kind not in RELEVANCES:
        raise ValueError(f"relevance must be one of {', '.join(RELEVANCES)}, got {kind!r}")
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
