"""RKD: match the distances between samples, and the angles of triples of them.

Park et al., "Relational Knowledge Distillation", CVPR 2019 (arXiv:1904.05068), equations 5 to 8, with Huber's loss h:
``25 mean_ij h(d_ij(s) / mean d(s) - d_ij(t) / mean d(t)) + 50 mean_ijk h(cos_ijk(s) - cos_ijk(t))``, distances of two
samples and the angle at the first of three; means over all b^2 and b^3 entries as in the authors' code, to which the
weights (25 and 50) belong.

Known to go wrong: there are b^3 angles, 4.3 GB for 1024 samples. Here at most ``CHUNK`` are held at a time, and where
there are more the gradient is taken with the value, part by part. Time is cubic all the same, so for large batches
``vertices`` takes the angles at so many of the samples only, others in every step: the same loss in expectation. Half
precision cannot hold the squares, so all is float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.data.keyed import uniform
from distill.losses.base import number
from distill.losses.gathering import gather
from distill.losses.tap_pair import TapPair, full_precision, unit
from distill.outputs import Batch, Outputs
from distill.schedules.base import Schedule

EPS = 1e-12  # below it squared distances have no gradient, which would be infinite at 0
CHUNK = 2**24  # numbers in the largest tensor, 64 MB of float32
STREAM = 230  # of the vertices; no augmentation draws from it


def distances(x: Tensor) -> Tensor:
    """Return the Euclidean distances ``(N, N)`` of vectors ``(N, D)`` over their mean."""
    x = x - x.mean(0)  # which changes no distance and leaves fewer digits to cancel
    square = x.square().sum(1)
    squared = (square[:, None] + square - 2 * x @ x.T).clamp_min(EPS)
    found = squared.sqrt() * (1 - torch.eye(len(x), device=x.device))
    return found * (len(x) * max(len(x) - 1, 1) / found.sum().clamp_min(EPS))


def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return Huber's loss of relative distances, averaged over all pairs ``(N, D)`` makes."""
    return F.smooth_l1_loss(distances(student), distances(teacher))


def _angles(x: Tensor, first: Tensor) -> Tensor:
    rays = unit(x[None] - first[:, None], dim=2)
    return rays @ rays.transpose(1, 2)


def _angle_sum(student: Tensor, teacher: Tensor, at: Tensor) -> Tensor:
    return F.smooth_l1_loss(_angles(student, student[at]), _angles(teacher, teacher[at]), reduction="sum")


class _InParts(torch.autograd.Function):
    """Sums over parts of the vertices; takes the gradient of each part before the next, so that none is kept."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, parts: list[Tensor]) -> Tensor:
        total, gradient = student.new_zeros(()), torch.zeros_like(student)
        for at in parts:
            with torch.enable_grad():
                leaf = student.detach().requires_grad_(ctx.needs_input_grad[0])
                part = _angle_sum(leaf, teacher, at)
            if ctx.needs_input_grad[0]:
                gradient += torch.autograd.grad(part, leaf)[0]
            total += part.detach()
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0] * ctx.saved_tensors[0], None, None


def angle_loss(student: Tensor, teacher: Tensor, chunk: int = CHUNK, at: Tensor | None = None) -> Tensor:
    """Return Huber's loss of the cosines at each vertex of each pair of samples, averaged over all such triples.

    Args:
        student: vectors ``(N, D)``.
        teacher: vectors ``(N, E)``, detached.
        chunk: numbers to hold at a time in the largest tensor.
        at: positions of the samples that are vertices ``(M,)``; None for all.
    """
    size = len(student)
    at = torch.arange(size, device=student.device) if at is None else at
    step = max(chunk // (size * max(size, student.shape[1], teacher.shape[1])), 1)
    if step >= len(at):
        return _angle_sum(student, teacher, at) / (len(at) * size**2)
    total: Tensor = _InParts.apply(student, teacher, at.split(step))
    return total / (len(at) * size**2)


def drawn(index: Tensor, view: Tensor, count: int) -> Tensor:
    """Return positions ``(count,)`` of samples drawn by their numbers and views ``(N,)``, in any batch order alike."""
    return uniform(0, view, index, STREAM).argsort()[:count]


def rkd(
    student: Tensor,
    teacher: Tensor,
    distance: float = 25.0,
    angle: float = 50.0,
    chunk: int = CHUNK,
    at: Tensor | None = None,
) -> Tensor:
    """Return the weighted sum of the losses of distances and of angles; a part of weight 0 is skipped.

    Args:
        student: feature ``(N, ...)``.
        teacher: feature ``(N, ...)``, of any shape; receives no gradient.
        distance: weight of the distances.
        angle: weight of the angles.
        chunk: numbers to hold at a time in the largest tensor of the angles.
        at: positions of the samples at which angles are taken ``(M,)``; None for all.
    """
    mine, other = student.float().flatten(1), teacher.detach().float().flatten(1)
    total = mine.sum() * 0
    if distance:
        total = total + distance * distance_loss(mine, other)
    if angle:
        total = total + angle * angle_loss(mine, other, chunk, at)
    return total


class RKD(TapPair):
    """Distances of pairs and angles of triples of samples, by one feature on each side.

    Args:
        student_tap: name of the student's feature; after pooling in the paper.
        teacher_tap: name of the teacher's feature.
        distance: weight of the distances.
        angle: weight of the angles.
        gather: in a distributed run, compare the samples of all processes, which then all compute the whole; else each
            process compares its own, which is another loss, of a smaller batch.
        vertices: samples of a batch at which angles are taken, drawn anew for each view of the samples; None for all,
            as in the paper. With a number, time grows with the square of the batch and not with its cube.

    Raises:
        ValueError: when there is no vertex.
    """

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        distance: float | Schedule = 25.0,
        angle: float | Schedule = 50.0,
        gather: bool = True,
        vertices: int | None = None,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        if vertices is not None and vertices < 1:
            raise ValueError(f"vertices must be at least 1, got {vertices}; null takes the angles at every sample")
        self.vertices = vertices
        self.distance = distance
        self.angle = angle
        self.gather = gather

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        index, view = batch.index, batch.view
        if self.gather:
            mine, other, index, view = gather(mine), gather(other), gather(index), gather(view)
        at = None if self.vertices is None or self.vertices >= len(mine) else drawn(index, view, self.vertices)
        with full_precision(mine):
            return rkd(mine, other, number(self.distance), number(self.angle), at=at)
