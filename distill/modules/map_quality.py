"""Map quality: whether a dense map knows where the class of an image is."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from distill.losses.map_spatial import attention
from distill.losses.maps import resample, scores
from distill.losses.tap_pair import unit
from distill.outputs import Anchors, Batch

TAU = 0.07
"""Of the softmax over places by which maps are judged, whatever a loss has."""


class Seen(NamedTuple):
    """What is said of a map, a value a sample ``(N,)``; NaN where it cannot be said.

    Attributes:
        pointing: 1 where the place that the class is found at most lies in the box of the sample.
        patch_class: share of the places in the box at which the class of the sample is the most probable.
        entropy: of the distribution over places of the class, as a share of its largest value: 1 is a flat map.
        agreement: 1 where the mean over places of the class probabilities has the same best class as the logits.
    """

    pointing: Tensor
    patch_class: Tensor
    entropy: Tensor
    agreement: Tensor


def inside(box: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which places of a grid lie in a box ``(N, h, w)``: those whose centre does, and that of the box's centre.

    Args:
        box: left, top, right, bottom as shares of width and height ``(N, 4)``; NaN gives none.
        size: height and width of the grid.
    """
    (height, width), box = size, box.float()
    y, x = ((torch.arange(n, device=box.device) + 0.5) / n for n in (height, width))
    left, top, right, bottom = (edge[:, None] for edge in box.unbind(1))
    centres = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    rows, columns = (
        ((low + high) / 2 * n).floor().clamp(0, n - 1) == torch.arange(n, device=box.device)
        for low, high, n in ((top, bottom, height), (left, right, width))
    )
    return centres | (rows[:, :, None] & columns[:, None])


def target_attention(maps: Tensor, anchors: Anchors, target: Tensor) -> Tensor:
    """Return the logarithm of the distribution over places of each sample's class ``(N, h w)``.

    Args:
        maps: embeddings ``(N, D, h, w)`` of any length.
        anchors: where the classes stand.
        target: class of each sample ``(N,)``.
    """
    found = attention(unit(maps.float()), anchors.text.float(), TAU, centred=True)
    return found[torch.arange(len(target), device=target.device), target]


def judged(maps: Tensor, logits: Tensor, anchors: Anchors, batch: Batch) -> Seen:
    """Return what a map is worth on a batch.

    Args:
        maps: embeddings ``(N, D, h, w)`` of any length.
        logits: what the network says of the whole images ``(N, K)``.
        anchors: where the classes stand.
        batch: with the classes, and the boxes where there are any.
    """
    maps, size = unit(maps.float()), (int(maps.shape[-2]), int(maps.shape[-1]))
    log = target_attention(maps, anchors, batch.target)
    classes = (anchors.scale * scores(maps, anchors.text.float(), centred=False).flatten(2)).softmax(1)
    nothing = torch.full_like(log[:, 0], math.nan)
    pointing = patch_class = nothing
    if batch.box is not None:
        box = inside(batch.box, size).flatten(1)
        known = ~batch.box.isnan().any(1)
        hit = box.gather(1, log.argmax(1, keepdim=True))[:, 0]
        right = (classes.argmax(1) == batch.target[:, None]) & box
        pointing = torch.where(known, hit.float(), nothing)
        patch_class = torch.where(known, right.sum(1) / box.sum(1).clamp_min(1), nothing)
    most = math.log(max(size[0] * size[1], 2))
    entropy = -(log.exp() * log).sum(1) / most
    agreement = (classes.mean(2).argmax(1) == logits.argmax(1)).float()
    return Seen(pointing, patch_class, entropy, agreement)


def differing(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence from teacher to student of distributions over places, their logarithms ``(N, n)``."""
    return (teacher.exp() * (teacher - student)).sum(1)


def on_grid(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return embeddings of any length ``(N, D, h, w)`` on another grid, of length 1."""
    return resample(maps.float(), size)
