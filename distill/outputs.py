"""The few typed values that pass between data, networks and losses: Batch, Outputs, Spec, InputSpec, Words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
        text: which of the dataset's texts goes with each sample, its caption or question ``(N,)``, int64; None where
            there are none. A row and not tokens, for every network has a tokenizer of its own.
        scores: credit in [0, 1] that each answer gets ``(N, K)``, float32; None where the target alone is right.
        box: left, top, right, bottom of what the target is about, as shares of width and height ``(N, 4)``, float32;
            NaN for samples that have none, None where no sample has one or images are augmented.
    """

    inputs: Tensor
    target: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs
    view: Tensor
    mix: Mix | None = None
    slot: Tensor | None = None
    text: Tensor | None = None
    scores: Tensor | None = None
    box: Tensor | None = None

    def split(self, sizes: list[int]) -> list[Batch]:
        """Return consecutive parts of these sizes."""
        parts = [_split(value, sizes) for value in self]
        return [Batch(*part) for part in zip(*parts, strict=True)]

    def take(self, chosen: Tensor) -> Batch:
        """Return the samples at positions ``(n,)``, which may repeat."""
        return Batch(*(_taken(value, chosen) for value in self))

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        moved = Batch(*(_moved(value, device) for value in self))
        # the slot stays: files are looked up by the host, which would have to wait for a device to give it back
        return moved._replace(slot=self.slot)


def _split(value: Tensor | Mix | None, sizes: list[int]) -> list[Any]:
    if value is None:
        return [None] * len(sizes)
    return list(value.split(sizes)) if isinstance(value, Tensor) else list(map(Mix, *(v.split(sizes) for v in value)))


def _taken(value: Tensor | Mix | None, chosen: Tensor) -> Any:
    if value is None:
        return None
    return value[chosen.to(value.device)] if isinstance(value, Tensor) else Mix(*(_taken(v, chosen) for v in value))


def _moved(value: Tensor | Mix | None, device: torch.device) -> Any:
    if value is None:
        return None
    moved = isinstance(value, Tensor)
    return value.to(device, non_blocking=True) if moved else Mix(*(_moved(v, device) for v in value))  # type: ignore[union-attr]


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
        anchors: of each teacher that has them, by its name.
    """

    target: Tensor
    classes: int
    anchors: Mapping[str, Anchors] = {}


class Anchors(NamedTuple):
    """Where the classes stand in the space that an image-text teacher embeds images in.

    Attributes:
        text: one vector of length 1 a class ``(K, D)``, float32.
        scale: what cosines are multiplied by to give logits.
    """

    text: Tensor
    scale: float


class Words(NamedTuple):
    """What a network that reads may know of a dataset; given to its ``meet``, before it is first asked.

    Attributes:
        classes: names of the classes, their numbers where they have none.
        texts: every caption or question, in the order of the rows that :class:`Batch` carries.
        anchors: of each teacher that has them, by its name; empty for a teacher itself.
    """

    classes: Sequence[str]
    texts: Sequence[str] = ()
    anchors: Mapping[str, Anchors] = {}


@dataclass(frozen=True)
class InputSpec:
    """What a network wants its pixels to be: mean and std by channel of [0, 1] pixels, (height, width) or any.

    Attributes:
        mean: by channel.
        std: by channel.
        size: height and width; None for any.
        mode: how other sizes are resized to it, ``"bilinear"`` or ``"bicubic"``, both antialiased.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    mode: str = "bilinear"
