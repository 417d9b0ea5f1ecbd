"""Augment: augmentation in two pure steps, keyed parameters and a batched application; the same in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

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

    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> list[Any]:
        # seeds far apart, or two parts of one kind would draw the same numbers
        return [part.sample(seed + (i << 40), view, index, shape) for i, part in enumerate(self.parts)]

    def apply(self, images: Tensor, params: Sequence[Any]) -> Tensor:
        for part, own in zip(self.parts, params, strict=True):
            images = part.apply(images, own)
        return images
