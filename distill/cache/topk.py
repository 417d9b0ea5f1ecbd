"""Top-k logits: the largest, their classes, and the mass of all others; a lossy form of a record's logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

VALUES, CLASSES, REST = "logits.values", "logits.classes", "logits.rest"


def fields(k: int, classes: int, dtype: str) -> dict[str, tuple[str, int]]:
    """Return the fields that top-k logits take."""
    return {VALUES: (dtype, k), CLASSES: ("int16" if classes <= 2**15 else "int32", k), REST: ("float32", 1)}


def pack(logits: Tensor, k: int) -> dict[str, Tensor]:
    """Return the k largest of logits ``(N, C)``, their classes, and the log of the sum of the others' exponentials."""
    values, classes = logits.float().topk(k, 1)
    others = logits.float().scatter(1, classes, -math.inf)
    return {VALUES: values, CLASSES: classes, REST: others.logsumexp(1, keepdim=True)}


def unpack(values: dict[str, Tensor], classes: int) -> Tensor:
    """Return logits ``(N, C)``: the largest as they were kept, the others equal to one another.

    At temperature 1 every kept class has its own probability and the others share what is left; at a higher one the
    others have somewhat too much, because equal logits have the most mass of all with that sum of exponentials.
    """
    kept = values[VALUES]
    others = values[REST] - math.log(classes - kept.shape[1])
    return torch.scatter(others.expand(-1, classes).contiguous(), 1, values[CLASSES], kept)
