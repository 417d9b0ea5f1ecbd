"""Synthetic: learnable images of any size, made on the spot; for tests and benchmarks."""

from __future__ import annotations

from typing import Any

import torch

from distill.data.base import ArrayImages, ImageData


class Synthetic(ImageData):
    """Each class is a fixed random pattern under noise.

    Args:
        samples: number of training images; half as many for testing.
        settings: the arguments of :class:`ImageData`.
    """

    def __init__(self, samples: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.samples = samples

    def read(self) -> tuple[ArrayImages, ArrayImages]:
        """Return the two splits."""
        return self._make(self.samples, 1), self._make(max(self.samples // 2, 1), 2)

    def _make(self, samples: int, seed: int) -> ArrayImages:
        shape = (self.channels, *self.image_size)
        patterns = torch.randint(0, 128, (self.num_classes, *shape), generator=torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(seed)
        target = torch.arange(samples) % self.num_classes
        noise = torch.randint(0, 128, (samples, *shape), generator=generator)
        return ArrayImages((patterns[target] + noise).to(torch.uint8), target)
