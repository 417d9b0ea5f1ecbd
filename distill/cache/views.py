"""Slots: which record of a cache belongs to a sample in a view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill.data.augment import Augment
from distill.outputs import Batch

if TYPE_CHECKING:
    from distill.data.base import Views


class Slots(ABC):
    """Numbers the views of a cache; the slot of sample ``id`` in view ``number`` is ``number * samples + id``.

    Args:
        views: number of views.
        samples: of the source.
    """

    def __init__(self, views: int, samples: int) -> None:
        self.views, self.samples = views, samples

    def drawn(self, view: Tensor) -> Tensor:
        """Return the view ``(N,)`` that an augmentation is asked for in place of this one."""
        return view

    @abstractmethod
    def number(self, view: Tensor, params: Any) -> Tensor:
        """Return the number ``(N,)`` of a view, from 0 to ``views``, by what was asked for and what was drawn."""

    def slot(self, ids: Tensor, view: Tensor, params: Any) -> Tensor:
        """Return the slots ``(N,)`` of samples of the source in views that were drawn with ``params``."""
        return self.number(view, params) * self.samples + ids

    @abstractmethod
    def batch(self, views: Views, index: Tensor, number: int, device: torch.device) -> Batch:
        """Return the samples at positions ``(N,)`` of a split in the view of this number, on a device."""


class Finite(Slots):
    """All views of an augmentation that has an end of them; which one a sample shows depends on what was drawn.

    Args:
        augment: None for none, which is one view.
        shape: of an image, ``(C, H, W)``.
        samples: of the source.

    Raises:
        ValueError: when there is no end of views.
    """

    def __init__(self, augment: Augment | None, shape: tuple[int, ...], samples: int) -> None:
        views = 1 if augment is None else augment.views(shape)
        if views is None:
            raise ValueError(
                f"cache.views=all: {type(augment).__name__} has no end of views; set cache.views to a number of "
                "them, such as 10"
            )
        super().__init__(views, samples)
        self.augment, self.shape = augment, shape

    def number(self, view: Tensor, params: Any) -> Tensor:
        return torch.zeros_like(view) if self.augment is None else self.augment.number(params, self.shape)

    def batch(self, views: Views, index: Tensor, number: int, device: torch.device) -> Batch:
        images = views.split.gather(index).to(device)
        numbers = torch.full_like(index, number)
        if self.augment is not None:
            # on the device, where the augmentation costs next to nothing; it only moves pixels
            images = self.augment.apply(images, self.augment.nth(numbers.to(device), self.shape))
        slot = numbers * self.samples + views.ids[index]
        target, where = views.split.target[index], index.to(device)
        return Batch(images, target.to(device), where, torch.zeros_like(where), slot=slot)


class Cycled(Slots):
    """So many views of any augmentation, mixing included, that the epochs go through in turn.

    Everything drawn is a function of (seed, view, index), so the number of the view is enough to name it.
    """

    def drawn(self, view: Tensor) -> Tensor:
        return view % self.views

    def number(self, view: Tensor, params: Any) -> Tensor:
        return view % self.views

    def batch(self, views: Views, index: Tensor, number: int, device: torch.device) -> Batch:
        return views.make(index, torch.full_like(index, number)).to(device)
