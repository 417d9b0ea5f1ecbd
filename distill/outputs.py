"""The few typed values that pass between data, networks and losses: Batch, Outputs, Spec, InputSpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor


class Mix(NamedTuple):
    """How the images of a batch were mixed with others (mixup, cutmix).

    Attributes:
        target: class indices ``(N,)`` of the images that were mixed in, int64.
        share: what part of each image is its own ``(N,)``, float32 in [0, 1].
    """

    target: Tensor
    share: Tensor


class Batch(NamedTuple):
    """One batch as the loader makes it.

    Attributes:
        inputs: images ``(N, C, H, W)``, uint8 pixels or floats in [0, 1]; augmented, never normalised,
            because student and teachers each normalise the same pixels their own way.
        target: class indices ``(N,)``, int64.
        index: position of each sample in its split ``(N,)``, int64; with ``view`` it names the augmented sample.
        view: number of the augmented view of each sample ``(N,)``, int64; 0 where nothing is augmented.
        mix: what other images were mixed in, None where none were.
        slot: where a teacher cache keeps the answers for each sample ``(N,)``, int64; None where there is no cache.
    """

    inputs: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    view: Tensor
    mix: Mix | None = None
    slot: Tensor | None = None

    def split(self, sizes: list[int]) -> list[Batch]:
        """Return consecutive parts of these sizes."""
        parts = [value.split(sizes) for value in self[:4]]
        mixes = [None] * len(sizes) if self.mix is None else map(Mix, *(value.split(sizes) for value in self.mix))
        slots = [None] * len(sizes) if self.slot is None else self.slot.split(sizes)
        return [Batch(*part) for part in zip(*parts, mixes, slots, strict=True)]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        mix = None if self.mix is None else Mix(*(value.to(device, non_blocking=True) for value in self.mix))
        inputs, target, index, view = (value.to(device, non_blocking=True) for value in self[:4])
        # the slot stays: files are looked up by the host, which would have to wait for a device to give it back
        return Batch(inputs, target, index, view, mix, self.slot)


@dataclass
class Outputs:
    """What a network says of a batch.

    Attributes:
        logits: unnormalised class scores ``(N, K)``.
        features: intermediate values by tap name, any shape with the batch first.
        views: outputs of further views of the batch by name, see :meth:`distill.losses.base.Loss.views`.
    """

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)
    views: dict[str, Outputs] = field(default_factory=dict)

    def divided(self, sizes: Mapping[str, int]) -> Outputs:
        """Return the outputs of the batch itself, with those of the further views that stand behind it.

        Args:
            sizes: images of each view, in the order in which they stand.
        """
        first = len(self.logits) - sum(sizes.values())
        counts = [first, *sizes.values()]
        logits = self.logits.split(counts)
        features = [
            dict(zip(self.features, part, strict=True))
            for part in zip(*(f.split(counts) for f in self.features.values()), strict=True)
        ]
        parts = [Outputs(one, features[i] if features else {}) for i, one in enumerate(logits)]
        parts[0].views = dict(zip(sizes, parts[1:], strict=True))
        return parts[0]


@dataclass(frozen=True)
class Spec:
    """Shape of one output without the batch dimension: ``(C, H, W)`` maps, ``(L, D)`` tokens, ``(D,)`` vectors.

    Attributes:
        shape: sizes of its dimensions.
        grid: height and width of the grid that the last tokens stand for, where the network says it.
    """

    shape: tuple[int, ...]
    grid: tuple[int, int] | None = None


Specs = Mapping[str, Spec]
"""Shapes by name: ``"logits"`` and every tap that was asked for."""


class TrainingSet(NamedTuple):
    """What a loss may know of the training split.

    Attributes:
        target: class index of every sample ``(M,)``, int64, by the index that :class:`Batch` carries.
        classes: number of classes.
    """

    target: Tensor
    classes: int


@dataclass(frozen=True)
class InputSpec:
    """What a network wants its pixels to be: mean and std by channel of [0, 1] pixels, (height, width) or any."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
