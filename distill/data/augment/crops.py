"""Crops: what moves an image, cuts a box out of it and mirrors it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.augment.base import Augment
from distill.data.keyed import uniforms


class CropFlip(Augment):
    """Crop from the zero-padded image, mirror half: torchvision's RandomCrop(size, padding), RandomHorizontalFlip.

    Parameters are ``(N, 3)``, int64: row and column of the crop in the padded image, 1 where it is mirrored.

    Args:
        padding: pixels added on each side; a crop moves by at most as many.
        flip: whether half of the views are mirrored left to right.

    Raises:
        ValueError: when padding is negative.
    """

    def __init__(self, padding: int, flip: bool) -> None:
        if padding < 0:
            raise ValueError(f"augment.padding={padding} must not be negative")
        self.padding, self.flip = padding, flip

    @property
    def mirrors(self) -> bool:
        return self.flip

    @property
    def _highs(self) -> tuple[int, int, int]:
        span = 2 * self.padding + 1
        return span, span, 2 if self.flip else 1

    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
        draws = uniforms(seed, view, index, range(3)) * torch.tensor(self._highs, device=index.device)[:, None]
        return draws.long().T

    def views(self, shape: Sequence[int]) -> int:
        return math.prod(self._highs)

    def number(self, params: Tensor, shape: Sequence[int]) -> Tensor:
        _, columns, flips = self._highs
        top, left, flip = params.unbind(1)
        return (top * columns + left) * flips + flip

    def nth(self, number: Tensor, shape: Sequence[int]) -> Tensor:
        _, columns, flips = self._highs
        place = number // flips
        return torch.stack([place // columns, place % columns, number % flips], 1)

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        n, c, h, w = images.shape
        padded = F.pad(images, [self.padding] * 4)
        top, left, flip = (p[:, None] for p in params.unbind(1))
        row = top + torch.arange(h, device=images.device)
        column = torch.arange(w, device=images.device)
        column = left + torch.where(flip == 1, w - 1 - column, column)
        # positions in the flattened image: one gather is four times faster than indexing by row and column
        position = (row * padded.shape[3])[:, :, None] + column[:, None, :]
        return padded.flatten(2).gather(2, position.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


class ResizedCropFlip(Augment):
    """Crop a box of random area and aspect, resize it back, mirror half: RandomResizedCrop and RandomHorizontalFlip.

    Parameters are ``(N, 5)``, int64: top, left, height and width of the box, 1 where it is mirrored. A box is never
    larger than the image, so bilinear interpolation reads two rows and two columns and antialiasing has no effect.

    Args:
        scale: smallest and largest area of the box as a share of the image.
        ratio: smallest and largest width / height of the box.
        flip: whether half of the views are mirrored left to right.

    Raises:
        ValueError: when a range is empty or not positive.
    """

    ATTEMPTS = 10  # torchvision's; then the largest centred box within the ratio
    BITS = 11  # of an interpolation weight, as in OpenCV; a pixel times two of them is an int32

    def __init__(self, scale: Sequence[float], ratio: Sequence[float], flip: bool) -> None:
        for name, (low, high) in (("scale", scale), ("ratio", ratio)):
            if not 0 < low <= high:
                raise ValueError(f"augment.{name}=[{low:g}, {high:g}] must be a range of positive numbers")
        self.scale, self.ratio, self.flip = scale, ratio, flip

    @property
    def mirrors(self) -> bool:
        return self.flip

    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
        _, h, w = shape
        low, high = (math.log(r) for r in self.ratio)
        height, width = self._centred(h, w)
        draws = uniforms(seed, view, index, range(1 + 4 * self.ATTEMPTS))
        flip = (draws[0] * (2 if self.flip else 1)).long()
        box = torch.stack([torch.full_like(index, v) for v in ((h - height) // 2, (w - width) // 2, height, width)], 1)
        found = torch.zeros_like(index, dtype=torch.bool)
        for u in draws[1:].split(4):
            area = h * w * (self.scale[0] + u[0] * (self.scale[1] - self.scale[0]))
            aspect = (low + u[1] * (high - low)).exp()
            tall, wide = (area / aspect).sqrt().round().long(), (area * aspect).sqrt().round().long()
            fits = (tall > 0) & (tall <= h) & (wide > 0) & (wide <= w)
            top, left = (u[2] * (h - tall + 1)).long(), (u[3] * (w - wide + 1)).long()
            box = torch.where((fits & ~found)[:, None], torch.stack([top, left, tall, wide], 1), box)
            found |= fits
        return torch.cat([box, flip[:, None]], 1)

    def _centred(self, h: int, w: int) -> tuple[int, int]:
        if w / h < self.ratio[0]:
            return round(w / self.ratio[0]), w
        if w / h > self.ratio[1]:
            return h, round(h * self.ratio[1])
        return h, w

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        n, c, h, w = images.shape
        top, left, height, width, flip = (p[:, None] for p in params.unbind(1))
        column = torch.arange(w, device=images.device)
        column = torch.where(flip == 1, w - 1 - column, column)
        down = self._taps(torch.arange(h, device=images.device), top, height, h)
        right = self._taps(column, left, width, w)
        plane = torch.arange(n * c, device=images.device).view(n, c, 1) * h
        flat = images.reshape(n * c * h, w)  # whole rows are copied much faster than single pixels
        tall = [flat[(plane + r[:, None]).flatten()].view(n, c, h, w) * v.view(n, 1, h, 1) for r, v in down]
        lines = tall[0].add_(tall[1])
        wide = [lines.gather(3, k.view(n, 1, 1, w).expand(n, c, h, w)).mul_(u.view(n, 1, 1, w)) for k, u in right]
        value = wide[0].add_(wide[1]).add_(1 << 2 * self.BITS - 1)
        return value.bitwise_right_shift_(2 * self.BITS).to(torch.uint8)

    def _taps(self, i: Tensor, first: Tensor, length: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
        """Return the two source pixels of each target pixel ``(N, size)``, each with its int32 weight."""
        # pixel i lies at (i + 1/2) length / size - 1/2 in the box; as numerator over 2 size
        at = ((2 * i + 1) * length - size).clamp(min=0)
        low = at // (2 * size)
        part = ((at - low * 2 * size << self.BITS) + size) // (2 * size)
        high = torch.minimum(low + 1, length - 1)
        return [(first + low, ((1 << self.BITS) - part).int()), (first + high, part.int())]
