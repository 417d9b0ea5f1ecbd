"""The forms of a feature: maps (C, H, W), tokens (L, D), vectors (D,); and how one is read as another."""

from __future__ import annotations

from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.outputs import Spec

PREFIXES = (0, 1, 2, 5)
"""Tokens that may stand before those of the grid: none, a class token, a distillation token too, four registers too."""
FORMS = {3: "map", 2: "tokens", 1: "vector"}


def form_of(spec: Spec) -> str:
    """Return ``"map"``, ``"tokens"`` or ``"vector"``; ``"other"`` for what no connector reads."""
    return FORMS.get(len(spec.shape), "other")


def channels(spec: Spec) -> int:
    """Return C of a map, D of tokens or of a vector."""
    return spec.shape[0] if len(spec.shape) == 3 else spec.shape[-1]


def grid_of(spec: Spec) -> tuple[int, int] | None:
    """Return height and width of a map, or of the grid of tokens; None where there is none.

    A network that says how large its grid is is believed; else the tokens are a square after one of :data:`PREFIXES`.
    """
    if len(spec.shape) == 3:
        return spec.shape[1], spec.shape[2]
    if len(spec.shape) != 2:
        return None
    if spec.grid is not None:
        return spec.grid
    for prefix in PREFIXES:
        side = isqrt(max(spec.shape[0] - prefix, 0))
        if side and prefix + side * side == spec.shape[0]:
            return side, side
    return None


def prefix_of(spec: Spec) -> int:
    """Return how many tokens stand before those of the grid, the first of them the class token."""
    grid = grid_of(spec)
    return spec.shape[0] - grid[0] * grid[1] if len(spec.shape) == 2 and grid is not None else 0


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps ``(N, C, H, W)`` of another size: bilinear, and averaging where it shrinks."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size, mode="bilinear", align_corners=False, antialias=True)


def as_map(feature: Tensor, spec: Spec) -> Tensor:
    """Return a feature as maps ``(N, C, H, W)``: tokens on their grid without the prefix, a vector as one pixel.

    Args:
        feature: ``(N, C, H, W)``, ``(N, L, D)`` or ``(N, D)``.
        spec: its shape; tokens must have a grid, see :func:`map_shape`.
    """
    if feature.dim() == 4:
        return feature
    if feature.dim() == 2:
        return feature[:, :, None, None]
    return feature[:, prefix_of(spec) :].transpose(1, 2).unflatten(2, grid_of(spec) or (-1, 1))


def map_shape(spec: Spec) -> tuple[int, int, int] | None:
    """Return the shape ``(C, H, W)`` that :func:`as_map` gives; None for tokens without a grid and other forms."""
    if len(spec.shape) == 1:
        return spec.shape[0], 1, 1
    grid = grid_of(spec)
    return None if grid is None else (channels(spec), *grid)


class Reform(nn.Module):
    """Gives a feature the form and the grid of another, not its channels; has no weights.

    A map or the tokens of a grid are resized; the class token, else the mean over positions, becomes a vector; where
    the other has more tokens before its grid, the mean over positions stands in for them.

    Args:
        source: shape of the feature.
        target: shape of the other; the two must be :func:`reformable`.
    """

    def __init__(self, source: Spec, target: Spec) -> None:
        super().__init__()
        self.source, self.target = source, target

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``(N, C, H, W)``, ``(N, L, C)`` or ``(N, C)`` with the channels of the feature."""
        source, target = self.source, self.target
        if _alike(source, target):
            return feature
        before = feature[:, : prefix_of(source)] if feature.dim() == 3 else None
        if form_of(target) == "vector":
            if before is not None and before.shape[1]:
                return before[:, 0]
            return feature.mean(1) if feature.dim() == 3 else feature.mean((2, 3))
        maps = resized(as_map(feature, source), grid_of(target) or (1, 1))
        if form_of(target) == "map":
            return maps
        tokens = maps.flatten(2).transpose(1, 2)
        wanted = prefix_of(target)
        kept = [] if before is None else [before[:, :wanted]]
        missing = wanted - sum(part.shape[1] for part in kept)
        return torch.cat([*kept, tokens.mean(1, keepdim=True).expand(-1, missing, -1), tokens], dim=1)


def _alike(source: Spec, target: Spec) -> bool:
    """Whether two features differ in channels only."""
    if len(source.shape) != len(target.shape):
        return False
    if len(source.shape) == 3:
        return source.shape[1:] == target.shape[1:]
    grids = grid_of(source), grid_of(target)
    return source.shape[:-1] == target.shape[:-1] and (None in grids or grids[0] == grids[1])


def reformable(source: Spec, target: Spec) -> bool:
    """Whether :class:`Reform` can read the one as the other."""
    if "other" in (form_of(source), form_of(target)):
        return False
    if _alike(source, target):
        return True
    if form_of(source) == "vector":
        return False
    return form_of(target) == "vector" or (grid_of(source) is not None and grid_of(target) is not None)
