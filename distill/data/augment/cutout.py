"""Cutout: hide a square of each image (DeVries and Taylor 2017, arXiv:1708.04552)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.data.augment.base import Augment
from distill.data.keyed import uniforms


class Cutout(Augment):
    """Fill a square whose centre is any pixel; what lies outside the image is cut off, as in the paper.

    Parameters are ``(N, 2)``, int64: top and left of the square, negative where it begins outside.

    Args:
        size: side of the square in pixels; 16 for CIFAR-10, 8 for CIFAR-100 in the paper.
        fill: [0, 1] pixel by channel; the paper fills after normalisation with 0, which is the mean of the dataset.

    Raises:
        ValueError: when size is below 1 or fill is no pixel.
    """

    def __init__(self, size: int, fill: Sequence[float]) -> None:
        if size < 1:
            raise ValueError(f"augment.size={size} must be at least 1")
        if not all(0 <= value <= 1 for value in fill):
            raise ValueError(f"augment.fill={list(fill)} must be numbers from 0 to 1, one a channel")
        self.size = size
        self.fill = [round(value * 255) for value in fill]

    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
        draws = uniforms(seed, view, index, range(2)) * torch.tensor(shape[1:], device=index.device)[:, None]
        return draws.long().T - self.size // 2

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        _, c, h, w = images.shape
        if len(self.fill) != c:
            raise ValueError(f"augment.fill={self.fill} must have one number for each of {c} channels")
        top, left = params[:, :1], params[:, 1:]
        row, column = (torch.arange(n, device=images.device) for n in (h, w))
        inside = ((row >= top) & (row < top + self.size))[:, None, :, None]
        inside = inside & ((column >= left) & (column < left + self.size))[:, None, None, :]
        fill = torch.tensor(self.fill, dtype=torch.uint8, device=images.device)
        return torch.where(inside, fill.view(c, 1, 1), images)
