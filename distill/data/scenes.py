"""Scenes: images of several coloured shapes with everything in them known, drawn on the spot from a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.keyed import mix, uniform, uniforms

COLORS = {
    "red": (220, 40, 40), "green": (40, 165, 60), "blue": (45, 80, 225), "yellow": (235, 215, 45),
    "purple": (150, 50, 190), "cyan": (60, 205, 215), "orange": (240, 135, 25), "pink": (245, 150, 195),
}  # fmt: skip
"""RGB of the colours that can be drawn."""
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
"""Shapes that can be drawn."""
LARGEST, OTHERS = (0.40, 0.48), (0.20, 0.26)
"""Side of an object's box as a share of the image's shorter side; a cross of the first still has the larger area."""

_COUNT, _KIND, _PLACE, _LOOK = range(4)  # groups of 32 streams of draws
_ROUNDS = 2000  # tries to place the objects of an image, of which one in ten to one in two succeeds
_PIECE = 256  # images painted at a time, so that what is computed on the way stays in the processor's cache
_GAP = 1  # pixels between objects at least

_Draw = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


class Scenes(NamedTuple):
    """What is in each of M images of up to S objects; the first object is the largest.

    Attributes:
        number: of each image in its split ``(M,)``, int64, by which its noise is drawn.
        objects: number of them in each image ``(M,)``, int64; the rest of a row stands for none.
        color: index of each object's colour ``(M, S)``, int64.
        shape: index of each object's shape ``(M, S)``, int64.
        box: left, top, right, bottom of each object in pixels ``(M, S, 4)``, int64.
    """

    number: Tensor
    objects: Tensor
    color: Tensor
    shape: Tensor
    box: Tensor

    @property
    def there(self) -> Tensor:
        """Which places of a row hold an object ``(M, S)``, boolean."""
        return torch.arange(self.color.shape[1]) < self.objects[:, None]


def draw_scenes(
    images: int,
    objects: tuple[int, int],
    size: tuple[int, int],
    first: Tensor,
    others: Tensor,
    distinct: bool,
    shapes: int,
    seed: int,
    split: int,
) -> Scenes:
    """Return scenes drawn by seed, split and image number alone, so that a longer list begins with the shorter one.

    Args:
        images: how many.
        objects: smallest and largest number of objects in an image.
        size: height and width in pixels.
        first: what the largest object may be ``(P,)``: colour times ``shapes`` plus shape.
        others: what the others may be ``(Q,)``.
        distinct: no colour and no shape twice in an image.
        shapes: number of shapes.
        seed: of the data.
        split: number of the split.

    Raises:
        ValueError: when an image cannot hold so many objects, or not so many distinct ones.
    """
    index = torch.arange(images)
    where = torch.full_like(index, split << 40)
    low, high = objects
    count = low + (uniform(seed, where, index, _COUNT * 32) * (high - low + 1)).long()
    there = torch.arange(high) < count[:, None]
    pair, box = torch.empty(images, high, dtype=torch.int64), torch.empty(images, high, 4, dtype=torch.int64)
    for values, draw in ((pair, _drawn_kinds(first, others, distinct, shapes)), (box, _drawn_boxes(size))):
        left = index
        for again in range(_ROUNDS):
            made, good = draw(seed, where[left] + again, left, there[left])
            values[left[good]] = made[good]
            left = left[~good]
            if not len(left):
                break
        else:
            what = "that differ in colour and shape" if values is pair else f"without overlap in {list(size)} pixels"
            raise ValueError(f"dataset.objects={list(objects)}: an image cannot hold so many {what}; lower it")
    return Scenes(index, count, pair // shapes, pair % shapes, box)


def _drawn_kinds(first: Tensor, others: Tensor, distinct: bool, shapes: int) -> _Draw:
    """Return what draws the objects of images, and says which images may stay."""

    def draw(seed: int, view: Tensor, index: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        u = uniforms(seed, view, index, range(_KIND * 32, _KIND * 32 + there.shape[1])).T
        pair = others[(u * len(others)).long()]
        pair[:, 0] = first[(u[:, 0] * len(first)).long()]
        if not distinct:
            return pair, torch.ones(len(index), dtype=torch.bool)
        both = _pairs(there)
        same = [(of[:, :, None] == of[:, None, :]) & both for of in (pair // shapes, pair % shapes)]
        return pair, ~(same[0] | same[1]).flatten(1).any(1)

    return draw


def _drawn_boxes(size: tuple[int, int]) -> _Draw:
    """Return what draws the boxes of images, and says in which none overlap."""
    short = min(size)

    def draw(seed: int, view: Tensor, index: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        slots = there.shape[1]
        u = uniforms(seed, view, index, range(_PLACE * 32, _PLACE * 32 + 3 * slots)).view(3, slots, -1).mT
        low = torch.tensor([LARGEST[0], *[OTHERS[0]] * (slots - 1)], dtype=torch.float64) * short
        high = torch.tensor([LARGEST[1], *[OTHERS[1]] * (slots - 1)], dtype=torch.float64) * short
        side = (low + u[0] * (high - low)).round().long()
        left = (u[1] * (size[1] - side + 1)).long()
        top = (u[2] * (size[0] - side + 1)).long()
        box = torch.stack([left, top, left + side, top + side], 2)
        start, end = box[:, :, None, :2], box[:, None, :, 2:] + _GAP
        meet = (start < end).all(-1)
        return box, ~(meet & meet.mT & _pairs(there)).flatten(1).any(1)

    return draw


def _pairs(there: Tensor) -> Tensor:
    """Return which two different places both hold an object ``(N, S, S)``, boolean."""
    return there[:, :, None] & there[:, None, :] & ~torch.eye(there.shape[1], dtype=torch.bool)


def paint(
    scenes: Scenes, size: tuple[int, int], colors: Sequence[str], shapes: Sequence[str], noise: float, seed: int,
    split: int,
) -> Tensor:  # fmt: skip
    """Return the images of scenes, uint8 ``(M, 3, H, W)``: shapes before a cloudy grey ground, noise over everything.

    Args:
        scenes: what is in them.
        size: height and width in pixels.
        colors: names of colours, by index.
        shapes: names of shapes, by index.
        noise: largest change of a pixel by noise, as a share of white.
        seed: of the data.
        split: number of the split.
    """
    out = torch.empty(len(scenes.objects), 3, *size, dtype=torch.uint8)
    masks: dict[tuple[str, int], np.ndarray] = {}
    palette = np.array([COLORS[name] for name in colors])
    for start in range(0, len(out), _PIECE):
        part = Scenes(*(value[start : start + _PIECE] for value in scenes))
        pixels = _ground(part.number, size, seed, split)
        shade = 0.75 + 0.25 * _look(part.number, part.color.shape[1], seed, split, 1)
        known = (part.objects.tolist(), part.shape.tolist(), part.color.tolist(), part.box.tolist())
        for image, shades, count, kinds, tints, boxes in zip(pixels, shade, *known, strict=True):
            for slot in range(count):
                left, top, right, bottom = boxes[slot]
                key = (shapes[kinds[slot]], right - left)
                if key not in masks:
                    masks[key] = mask(*key)
                tint = (palette[tints[slot]] * shades[slot]).astype(np.int16)
                np.copyto(image[:, top:bottom, left:right], tint[:, None, None], where=masks[key])
        if noise:
            pixels += _noise(part.number, size, noise, seed, split)
        out[start : start + _PIECE] = torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))
    return out


def mask(shape: str, side: int) -> np.ndarray:
    """Return which pixels of its box a shape fills ``(side, side)``, boolean."""
    at = (np.arange(side) + 0.5) * (2 / side) - 1
    x, y = at[None, :], at[:, None]
    radius = x * x + y * y
    filled = {
        "circle": radius <= 1,
        "square": np.ones((side, side), dtype=bool),
        "triangle": 2 * np.abs(x) <= y + 1,
        "cross": (np.abs(x) <= 0.36) | (np.abs(y) <= 0.36),
        "ring": (radius <= 1) & (radius >= 0.3),
        "diamond": np.abs(x) + np.abs(y) <= 1,
    }
    return np.broadcast_to(filled[shape], (side, side))


def _look(number: Tensor, count: int, seed: int, split: int, group: int) -> np.ndarray:
    """Return numbers in [0, 1) that decide how images look ``(N, count)``, float64."""
    streams = range((_LOOK + group) * 32, (_LOOK + group) * 32 + count)
    return uniforms(seed, torch.full_like(number, split << 40), number, streams).T.numpy()


def _ground(number: Tensor, size: tuple[int, int], seed: int, split: int) -> np.ndarray:
    """Return grey grounds that get lighter and darker over the image ``(N, 3, H, W)``, int16."""
    u = torch.from_numpy(_look(number, 26, seed, split, 0))
    coarse = 50 + 70 * u[:, :1] + 50 * u[:, 1:]
    smooth = F.interpolate(coarse.view(-1, 1, 5, 5), size, mode="bilinear", align_corners=True)
    return smooth.round().to(torch.int16).expand(-1, 3, -1, -1).contiguous().numpy()


def _noise(number: Tensor, size: tuple[int, int], noise: float, seed: int, split: int) -> np.ndarray:
    """Return evenly distributed noise ``(N, 3, H, W)``, int16."""
    words = -(-3 * size[0] * size[1] // 8)  # of eight bytes
    key = mix(mix(torch.tensor(seed)) ^ split)
    bits = mix(key ^ (number[:, None] * words + torch.arange(words)))
    byte = bits.numpy().view(np.uint8)[:, : 3 * size[0] * size[1]].reshape(-1, 3, *size)
    return (byte.astype(np.int16) - 128) * round(noise * 255) // 128
