"""ABF: the attention-based fusion of ReviewKD, for one feature and for a chain of them.

Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021 (arXiv:2104.09044), section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.connectors.forms import as_map, form_of, map_shape
from distill.connectors.layers import BatchNorm
from distill.outputs import Spec

WIDEST = 512
"""Most channels in which features are fused, as in the paper's code."""


class ABF(nn.Module):
    """Fuses a feature with what was fused of the deeper ones, by attention weights of each pixel.

    Args:
        inputs: channels of the feature.
        middle: channels in which the two are fused.
        outputs: channels of the teacher's feature.
        fuse: False for the deepest feature, which there is nothing to fuse with.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, fuse: bool) -> None:
        super().__init__()
        enter = nn.Conv2d(inputs, middle, 1, bias=False)
        leave = nn.Conv2d(middle, outputs, 3, padding=1, bias=False)
        for layer in (enter, leave):
            nn.init.kaiming_uniform_(layer.weight, a=1)
        self.enter = nn.Sequential(enter, BatchNorm(middle))
        self.leave = nn.Sequential(leave, BatchNorm(outputs))
        self.attention = nn.Conv2d(2 * middle, 2, 1) if fuse else None

    def forward(self, feature: Tensor, deeper: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the feature for the teacher ``(N, outputs, *size)`` and what the next shallower one is fused with.

        Args:
            feature: ``(N, inputs, H, W)``.
            deeper: ``(N, middle, h, w)``, given if and only if it fuses.
            size: height and width of the teacher's feature.
        """
        fused = self.enter(feature)
        if self.attention is not None and deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[-2:], mode="nearest")
            share = torch.sigmoid(self.attention(torch.cat([fused, deeper], dim=1)))
            fused = fused * share[:, :1] + deeper * share[:, 1:]
        if tuple(fused.shape[-2:]) != size:
            fused = F.interpolate(fused, size, mode="nearest")
        return self.leave(fused), fused


class Review(nn.Module):
    """A chain of :class:`ABF` from the deepest feature to the shallowest.

    Args:
        student: shapes of the student's features, shallowest first; each has a :func:`~distill.connectors.map_shape`.
        teacher: shapes of the teacher's, likewise.
    """

    def __init__(self, student: Sequence[Spec], teacher: Sequence[Spec]) -> None:
        super().__init__()
        self.student = list(student)
        shapes = [map_shape(spec) or (0, 0, 0) for spec in student]
        goals = [map_shape(spec) or (0, 0, 0) for spec in teacher]
        self.sizes = [(height, width) for _, height, width in goals]
        middle = min(WIDEST, shapes[-1][0])
        last = len(shapes) - 1
        self.steps = nn.ModuleList(
            ABF(mine[0], middle, other[0], fuse=i < last)
            for i, (mine, other) in enumerate(zip(shapes, goals, strict=True))
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return a map ``(N, C, H, W)`` of the teacher's shape for each feature, shallowest first."""
        found: list[Tensor] = []
        fused: Tensor | None = None
        for i in reversed(range(len(features))):
            out, fused = self.steps[i](as_map(features[i], self.student[i]), fused, self.sizes[i])
            found.insert(0, out)
        return found


class _Alone(nn.Module):
    """The chain of a single feature."""

    def __init__(self, student: Spec, teacher: Spec) -> None:
        super().__init__()
        self.chain = Review([student], [teacher])

    def forward(self, feature: Tensor) -> Tensor:
        return self.chain([feature])[0]


def abf(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return an ABF for a single feature, which has nothing to fuse, to a map of any size; None for other forms."""
    if form_of(teacher) != "map" or form_of(student) == "vector" or map_shape(student) is None:
        return None
    return _Alone(student, teacher)
