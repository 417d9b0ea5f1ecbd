"""Corruption: test images with noise, blur, less contrast, more light or coarser pixels: what a student can bear.

In the manner of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, made on the spot; not their images, and not their strengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.data.keyed import uniforms
from distill.outputs import Batch

LEVELS = 5
"""Strengths of a corruption, from 1 on."""
_STREAMS = (220, 221)  # of the noise; no augmentation draws from them


def noise(images: Tensor, level: int, index: Tensor) -> Tensor:
    """Return images in [0, 1] with Gaussian noise of standard deviation 0.02 a level, of its own for each index."""
    pixels = images[0].numel()
    place = torch.arange(pixels, device=images.device).repeat(len(images))
    first, second = uniforms(0, place, index.to(images.device).repeat_interleave(pixels), _STREAMS)
    drawn = (-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()  # Box and Muller, 1958
    return images + 0.02 * level * drawn.to(images.dtype).view_as(images)


def blur(images: Tensor, level: int, index: Tensor) -> Tensor:
    """Return images under a Gaussian of standard deviation 0.3 pixels a level, borders repeated."""
    sigma = 0.3 * level
    radius = max(int(3 * sigma + 0.5), 1)
    offset = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.softmax(-(offset**2) / (2 * sigma**2), 0)
    channels = images.shape[1]
    for shape, pad in (((1, -1), (radius, radius, 0, 0)), ((-1, 1), (0, 0, radius, radius))):
        weight = kernel.view(1, 1, *shape).expand(channels, 1, *kernel.view(*shape).shape)
        images = F.conv2d(F.pad(images, pad, mode="replicate"), weight, groups=channels)
    return images


def contrast(images: Tensor, level: int, index: Tensor) -> Tensor:
    """Return images nearer to their mean colour, by 15 % a level."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + (images - mean) * (1 - 0.15 * level)


def brightness(images: Tensor, level: int, index: Tensor) -> Tensor:
    """Return images lighter by 0.06 of the whole range a level."""
    return images + 0.06 * level


def pixelate(images: Tensor, level: int, index: Tensor) -> Tensor:
    """Return images that were smaller by 10 % a level, and are enlarged again without smoothing."""
    height, width = images.shape[2:]
    small = [max(round(side * (1 - 0.1 * level)), 1) for side in (height, width)]
    return F.interpolate(F.interpolate(images, small, mode="area"), (height, width), mode="nearest-exact")


KINDS: dict[str, Callable[[Tensor, int, Tensor], Tensor]] = {
    "noise": noise, "blur": blur, "contrast": contrast, "brightness": brightness, "pixelate": pixelate,
}  # fmt: skip
"""Corruptions of float images ``(N, C, H, W)``, a level from 1 to ``LEVELS``, and the index of each ``(N,)``."""


def corrupt(images: Tensor, kind: str, level: int, index: Tensor) -> Tensor:
    """Return corrupted images, rounded to grey levels as a camera would; the same for an image in any batch.

    Args:
        images: uint8 ``(N, C, H, W)``.
        kind: one of ``KINDS``.
        level: 1 to ``LEVELS``.
        index: of each sample in its split ``(N,)``.

    Raises:
        ValueError: for another kind or level.
    """
    if kind not in KINDS or not 1 <= level <= LEVELS:
        raise ValueError(f"corruption {kind!r} at level {level}: choose {', '.join(KINDS)}, at level 1 to {LEVELS}")
    found = KINDS[kind](images.float() / 255, level, index)
    return (255 * found.clamp(0, 1)).round().to(torch.uint8)


def corrupted(batches: Iterable[Batch], kind: str, level: int) -> Iterator[Batch]:
    """Give batches with their images corrupted."""
    for batch in batches:
        yield batch._replace(inputs=corrupt(batch.inputs, kind, level, batch.index))
