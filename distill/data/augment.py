"""Augmentation in two pure steps: keyed parameters, then a batched application; the same in any order or worker."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.keyed import uniforms


class Augment(ABC):
    """One kind of augmentation of uint8 images ``(N, C, H, W)``."""

    @abstractmethod
    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> Any:
        """Return the parameters that :meth:`apply` takes, decided by (seed, view, index) alone.

        Args:
            seed: the run's seed.
            view: view numbers ``(N,)``.
            index: sample numbers ``(N,)``.
            shape: of one image, ``(C, H, W)``.
        """

    @abstractmethod
    def apply(self, images: Tensor, params: Any) -> Tensor:
        """Return the augmented images ``(N, C, H, W)``, of the same size."""

    def views(self, shape: Sequence[int]) -> int | None:
        """Return how many different parameters there are for an image ``(C, H, W)``; None where they have no end."""
        return None

    def number(self, params: Any, shape: Sequence[int]) -> Tensor:
        """Return which of :meth:`views` the parameters are ``(N,)``, int64 from 0.

        Raises:
            ValueError: when there is no end of them.
        """
        raise ValueError(f"{type(self).__name__} has no end of views, so they have no numbers; set cache.views to one")

    def nth(self, number: Tensor, shape: Sequence[int]) -> Any:
        """Return the parameters with these numbers ``(N,)``: the inverse of :meth:`number`.

        Raises:
            ValueError: when there is no end of them.
        """
        raise ValueError(f"{type(self).__name__} has no end of views, so they have no numbers; set cache.views to one")

    def __call__(self, images: Tensor, seed: int, view: Tensor, index: Tensor) -> Tensor:
        """Return the views ``(N, C, H, W)`` of images that (seed, view, index) name."""
        return self.apply(images, self.sample(seed, view, index, images.shape[1:]))


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

    Parameters are ``(N, 5)``, int64: top, left, height and width of the box, 1 where it is mirrored.

    Args:
        scale: smallest and largest area of the box as a share of the image.
        ratio: smallest and largest width / height of the box.
        flip: whether half of the views are mirrored left to right.

    Raises:
        ValueError: when a range is empty or not positive.
    """

    ATTEMPTS = 10  # torchvision's; then the largest centred box within the ratio

    def __init__(self, scale: Sequence[float], ratio: Sequence[float], flip: bool) -> None:
        for name, (low, high) in (("scale", scale), ("ratio", ratio)):
            if not 0 < low <= high:
                raise ValueError(f"augment.{name}=[{low:g}, {high:g}] must be a range of positive numbers")
        self.scale, self.ratio, self.flip = scale, ratio, flip

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
        size = images.shape[2:]
        out = torch.empty_like(images)
        for i, (top, left, height, width, flip) in enumerate(params.tolist()):
            box = images[i : i + 1, :, top : top + height, left : left + width]
            view = F.interpolate(box.float(), size, mode="bilinear", antialias=True).round_().clamp_(0, 255)
            out[i] = (view.flip(3) if flip else view)[0]
        return out


class Compose(Augment):
    """Several augmentations, one after the other; parameters are the list of theirs.

    Args:
        parts: in order of application.
    """

    def __init__(self, parts: Sequence[Augment]) -> None:
        self.parts = list(parts)

    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> list[Any]:
        # seeds far apart, or two parts of one kind would draw the same numbers
        return [part.sample(seed + (i << 40), view, index, shape) for i, part in enumerate(self.parts)]

    def views(self, shape: Sequence[int]) -> int | None:
        counts = [part.views(shape) for part in self.parts]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def number(self, params: Sequence[Any], shape: Sequence[int]) -> Tensor:
        # digits of one number, the first part's the highest
        number = torch.zeros((), dtype=torch.int64)
        for part, own in zip(self.parts, params, strict=True):
            number = number * (part.views(shape) or 1) + part.number(own, shape)
        return number

    def nth(self, number: Tensor, shape: Sequence[int]) -> list[Any]:
        params = []
        for part in reversed(self.parts):
            count = part.views(shape) or 1
            params.append(part.nth(number % count, shape))
            number = number // count
        return params[::-1]

    def apply(self, images: Tensor, params: Sequence[Any]) -> Tensor:
        for part, own in zip(self.parts, params, strict=True):
            images = part.apply(images, own)
        return images
