"""Augment: augmentation in two pure steps, keyed parameters and a batched application; the same in any order."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Augment(ABC):
    """One kind of augmentation of uint8 images ``(N, C, H, W)``.

    Parts draw integers and compute in integers, because floating point sums differ from device to device.
    """

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

    @property
    def mirrors(self) -> bool:
        """Whether left and right may change places, which makes sentences about them false."""
        return False

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


class Compose(Augment):
    """Several augmentations, one after the other; parameters are the list of theirs.

    Args:
        parts: in order of application.
    """

    def __init__(self, parts: Sequence[Augment]) -> None:
        self.parts = list(parts)

    @property
    def mirrors(self) -> bool:
        return any(part.mirrors for part in self.parts)

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
