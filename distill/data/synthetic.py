"""Synthetic: learnable images of any size, made on the spot; for tests and benchmarks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.base import ArrayImages, ImageData, Images
from distill.data.keyed import uniform

_PATTERN, _NOISE = 1, 2  # seeds: the run's seed does not change the data


@dataclass(kw_only=True, eq=False, repr=False)
class Synthetic(ImageData):
    """Each class is a smooth random pattern, under noise of the same strength; equal on every machine.

    Args:
        samples: number of training images; half as many for testing.
    """

    samples: int

    def read(self) -> tuple[Images, Images]:
        """Return the two splits."""
        return self._make(self.samples, 0), self._make(max(self.samples // 2, 1), 1)

    def _make(self, samples: int, split: int) -> Images:
        coarse = self._draw(_PATTERN, self.num_classes, 0, (self.channels, 4, 4))
        patterns = F.interpolate(coarse, self.image_size, mode="bilinear", align_corners=True)
        noise = self._draw(_NOISE, samples, split, (self.channels, *self.image_size))
        target = torch.arange(samples) % self.num_classes
        return ArrayImages(((patterns[target] + noise) * 127.5).to(torch.uint8), target)

    def _draw(self, seed: int, samples: int, split: int, shape: tuple[int, int, int]) -> Tensor:
        """Return numbers in [0, 1), float32 ``(samples, *shape)``."""
        index = torch.arange(samples * shape[0] * shape[1] * shape[2])
        return uniform(seed, torch.full_like(index, split), index, 0).float().view(samples, *shape)
