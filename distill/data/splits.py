"""Splits: what a dataset reads, divided evenly by class, and checked against what the config declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from distill.data.images import ArrayImages, FileImages, Images
from distill.data.keyed import mix


class Splits(NamedTuple):
    """What a dataset reads; ``val`` only where its authors fixed one."""

    train: Images
    test: Images
    val: Images | None = None


def stratified(target: Tensor, count: int, key: Tensor) -> Tensor:
    """Return which ``count`` samples to take so that every class gives the same share of its own, to within one.

    Args:
        target: class indices ``(N,)``, from 0.
        count: how many to take, at most N.
        key: sort key ``(N,)`` that decides which samples of a class are taken.

    Returns:
        Boolean ``(N,)`` with exactly ``count`` true.
    """
    sizes = torch.bincount(target)
    share = sizes.double() * count / max(len(target), 1)
    take = share.floor().long()
    missing = count - int(take.sum())
    take[(share - take).argsort(descending=True, stable=True)[:missing]] += 1
    by_key = key.argsort(stable=True)
    order = by_key[target[by_key].argsort(stable=True)]
    place = torch.arange(len(target)) - (sizes.cumsum(0) - sizes)[target[order]]
    taken = torch.zeros(len(target), dtype=torch.bool)
    taken[order] = place < take[target[order]]
    return taken


def divide(split: Images, count: int, seed: int) -> tuple[Images, Images]:
    """Return ``count`` samples of a split, the same share of every class, and the others; both in their old order.

    Args:
        split: what is divided.
        count: samples of the first part.
        seed: decides which; not the run's seed, so that all runs of a comparison divide alike.
    """
    taken = stratified(split.target, count, mix(torch.arange(len(split)) + (seed << 32)))
    first, other = taken.nonzero()[:, 0], (~taken).nonzero()[:, 0]
    target, classes = split.target, split.classes
    return split.part(first, target[first], classes), split.part(other, target[other], classes)


def keep_classes(name: str, split: Images, subset: int | Sequence[int]) -> Images:
    """Return the samples of the first n classes, or of a list of them, renumbered in that order.

    Raises:
        ValueError: when a class does not exist or is named twice.
    """
    kept = torch.arange(subset) if isinstance(subset, int) else torch.tensor(subset, dtype=torch.int64)
    known = max(len(split.classes), int(split.target.max()) + 1 if len(split) else 0)
    if not len(kept) or len(kept.unique()) != len(kept) or int(kept.min()) < 0 or int(kept.max()) >= known:
        raise ValueError(
            f"dataset.class_subset={subset}: must be a number of classes or a list of different ones, "
            f"out of the {known} in the {name} split"
        )
    number = torch.full((known,), -1).scatter_(0, kept, torch.arange(len(kept)))
    index = (number[split.target] >= 0).nonzero()[:, 0]
    names = [split.classes[i] for i in kept.tolist()] if split.classes else ()
    part = split.part(index, number[split.target[index]], names)
    return part if part.notes.answers is None else renumbered(part, number)


def renumbered(split: Images, number: Tensor) -> Images:
    """Return a split whose answers have the numbers ``(K,)`` that classes get; those of -1 get no credit."""
    answers = split.notes.answers
    assert isinstance(split, ArrayImages | FileImages)
    assert answers is not None
    kept = torch.where(answers < 0, answers, number[answers])
    return replace(split, notes=split.notes._replace(answers=kept))


def check(name: str, split: Images, shape: tuple[int, int, int], num_classes: int, absent: Sequence[str] = ()) -> None:
    """Compare a split with what the config declares.

    Args:
        name: of the split; in ``train`` every class must have an image.
        split: what was read.
        shape: declared channels, height and width.
        num_classes: declared.
        absent: names of the classes that need no training image.

    Raises:
        ValueError: says what differs and what to set.
    """
    if not len(split):
        raise ValueError(f"the {name} split has no image")
    c, h, w = split.shape
    if (c, h, w) != shape:
        raise ValueError(
            f"dataset.channels={shape[0]} and dataset.image_size=[{shape[1]},{shape[2]}], but the {name} images "
            f"are not: set dataset.channels={c} dataset.image_size=[{h},{w}]"
        )
    if int(split.target.min()) < 0:
        raise ValueError(f"the {name} split has label {int(split.target.min())}, no class: choose a labelled split")
    classes = max(len(split.classes), int(split.target.max()) + 1)
    if classes > num_classes or name == "train" and classes < num_classes:
        raise ValueError(
            f"dataset.num_classes={num_classes}, but the {name} split has {classes} classes: "
            f"set dataset.num_classes={classes}"
        )
    if name == "train":
        empty = (torch.bincount(split.target, minlength=classes) == 0).nonzero()[:, 0].tolist()
        empty = [i for i in empty if not split.classes or split.classes[i] not in absent]
        if empty:
            which = ", ".join(split.classes[i] if split.classes else str(i) for i in empty[:5])
            raise ValueError(f"{len(empty)} of {classes} classes have no training image ({which}): add some")
