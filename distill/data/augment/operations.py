"""The image operations of RandAugment on batches, each row with its own strength, in integers: equal on every device.

They follow torchvision.transforms.v2.functional on uint8: posterize, solarize, equalize and what moves pixels are
equal; the others cut floating point off to grey levels there, and may be one level away where the result is whole.
Images are uint8 ``(N, C, H, W)``, strengths ``(N,)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 16
"""Of the fraction of a blending factor; two pixels times 2.0 still fit an int32."""
_GREY = (19589, 38470, 7471)  # 0.2989, 0.587, 0.114 in 2^-16: ITU-R BT.601, as torchvision rounds it
AFFINE_BITS = 32
"""Of the fraction of an affine coefficient."""


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def fixed(factor: Tensor) -> Tensor:
    """Return numbers ``(N,)`` as whole multiples of 2^-16, int32."""
    return (factor.double() * (1 << BITS)).round().int()


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return ``factor images + other``, cut off and clamped; ``other``, int32, has its share in 2^-16 already."""
    value = (images * _column(fixed(factor))).add_(other)
    return value.bitwise_right_shift_(BITS).clamp_(0, 255).to(torch.uint8)


def _rest(factor: Tensor) -> Tensor:
    return _column((1 << BITS) - fixed(factor))


def grey(images: Tensor) -> Tensor:
    """Return the luma ``(N, 1, H, W)``, int32, cut off to whole levels."""
    if images.shape[1] == 1:
        return images.int()
    r, g, b = images.int().unbind(1)
    return ((r * _GREY[0] + g * _GREY[1] + b * _GREY[2]) >> BITS)[:, None]


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Return pixels times factor."""
    return _blend(images, torch.zeros((), dtype=torch.int32, device=images.device), factor)


def color(images: Tensor, factor: Tensor) -> Tensor:
    """Return a blend with the grey image, 0 being grey and 1 the image; one channel stays as it is."""
    return images if images.shape[1] == 1 else _blend(images, grey(images) * _rest(factor), factor)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Return a blend with the mean of the grey image, 0 being the mean alone and 1 the image."""
    h, w = images.shape[2:]
    total = grey(images).sum((1, 2, 3), keepdim=True)
    return _blend(images, (total * _rest(factor) // (h * w)).int(), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Return a blend with the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13; the border stays as it is."""
    h, w = images.shape[2:]
    if min(h, w) <= 2:
        return images
    wide = images.int()
    middle = wide[:, :, 1:-1, 1:-1]
    rows = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * middle
    smooth = ((total + 6) * 80660) >> 20  # total / 13, rounded; exact up to 255 * 13, and integers divide slowly
    out = images.clone()
    out[:, :, 1:-1, 1:-1] = _blend(middle, smooth * _rest(factor), factor)
    return out


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Return pixels with only their highest bits ``(N,)``, int64, kept."""
    return images & _column((256 - (256 >> bits)).to(torch.uint8))


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Return images with the pixels from a threshold ``(N,)``, int64, upwards inverted."""
    return torch.where(images >= _column(threshold.to(torch.uint8)), 255 - images, images)


def autocontrast(images: Tensor) -> Tensor:
    """Return images stretched so that the darkest pixel of each channel is 0 and the brightest 255."""
    low, high = images.amin((2, 3), keepdim=True).int(), images.amax((2, 3), keepdim=True).int()
    span = high - low
    stretched = ((images - low) * 255 // span.clamp(min=1)).to(torch.uint8)
    return torch.where(span == 0, images, stretched)


def equalize(images: Tensor) -> Tensor:
    """Return images whose grey levels are spread evenly, each channel by its own histogram, as PIL does."""
    n, c, h, w = images.shape
    flat = images.flatten(2).long()
    hist = torch.zeros((n, c, 256), dtype=torch.int64, device=images.device)
    hist.scatter_add_(2, flat, torch.ones_like(flat))
    count = hist.cumsum(2)
    brightest = count.argmax(2, keepdim=True)  # the first level that has all pixels at or below it
    step = (h * w - hist.gather(2, brightest)) // 255
    table = ((count + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.cat([torch.zeros_like(step), table[..., :-1]], 2).to(torch.uint8)
    return torch.where(step == 0, images.flatten(2), table.gather(2, flat)).view(n, c, h, w)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Return images resampled to the nearest pixel, 0 where the source is outside.

    Args:
        images: ``(N, C, H, W)``.
        matrix: ``(N, 6)``, int64 in 2^-32: target (x, y) in pixels from the centre comes from the source
            (a x + b y + c, d x + e y + f).
    """
    n, ch, h, w = images.shape
    # in half pixels every pixel's centre is a whole number from the image's centre; the last shift halves again
    y, x = (2 * torch.arange(size, device=images.device) + 1 - size for size in (h, w))
    a, b, c, d, e, f = matrix.view(n, 6, 1, 1).unbind(1)
    column = (a * x + b * y[:, None] + 2 * c + (w << AFFINE_BITS)) >> AFFINE_BITS + 1
    row = (d * x + e * y[:, None] + 2 * f + (h << AFFINE_BITS)) >> AFFINE_BITS + 1
    inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
    position = torch.where(inside, row * w + column, 0).view(n, 1, h * w).expand(n, ch, h * w)
    return images.flatten(2).gather(2, position).view(n, ch, h, w) * inside[:, None]
