"""Augmentation in two pure steps: keyed parameters, then one batched application; the same for any order or worker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.keyed import integers


class Augment(ABC):
    """One kind of augmentation of uint8 images."""

    @abstractmethod
    def sample(self, seed: int, view: Tensor, index: Tensor) -> Tensor:
        """Return parameters ``(N, P)``, int64, that only (seed, view, index) decide."""

    @abstractmethod
    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        """Return augmented images ``(N, C, H, W)`` of the same size."""

    def __call__(self, images: Tensor, seed: int, view: Tensor, index: Tensor) -> Tensor:
        """Return the views ``(N, C, H, W)`` of images that (seed, view, index) name."""
        return self.apply(images, self.sample(seed, view, index))


class CropFlip(Augment):
    """Crop from the zero-padded image, flip half: torchvision's RandomCrop(size, padding) and RandomHorizontalFlip.

    Args:
        padding: pixels added on each side, so a crop moves by at most as many.
        flip: whether half of the views are mirrored left to right.

    Raises:
        ValueError: when padding is negative.
    """

    def __init__(self, padding: int, flip: bool) -> None:
        if padding < 0:
            raise ValueError(f"padding must not be negative, got {padding}")
        self.padding, self.flip = padding, flip

    def sample(self, seed: int, view: Tensor, index: Tensor) -> Tensor:
        """Return row offset, column offset and flip of each view ``(N, 3)``."""
        span = 2 * self.padding + 1
        draws: Sequence[Tensor] = [
            integers(seed, view, index, stream, high) for stream, high in enumerate((span, span, 2))
        ]
        params = torch.stack(tuple(draws), 1)
        return params if self.flip else params * torch.tensor([1, 1, 0])

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        """Return the crops, one gather for the whole batch."""
        n, _, h, w = images.shape
        padded = F.pad(images, [self.padding] * 4)
        top, left, flip = params.unbind(1)
        rows = top[:, None] + torch.arange(h)
        columns = torch.arange(w).expand(n, w)
        columns = left[:, None] + torch.where(flip[:, None] == 1, w - 1 - columns, columns)
        return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
