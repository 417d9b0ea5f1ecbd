"""Manifest: everything that decides what a cache holds, so that a stale or foreign one is told from the right one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.cache import KIND
from distill.data.images import Images

VERSION = 1
"""Goes up when files of the same manifest would be read differently."""


@dataclass(frozen=True)
class Manifest:
    """What is in a cache.

    Attributes:
        teacher: what decides its answers, by name, such as a hash of its weights; see ``Teacher.identity``.
        data: hash and shape of the source's images.
        transform: the augmentation with its arguments, what mixes images, and how views are numbered.
        drawn: seed and samples that random views are drawn for; None where views are all there are.
        samples: of the source, whether they are in the split or not.
        views: of each sample.
        classes: of the teacher.
        top_k: logits that are kept of a record; None for all.
        fields: dtype and length of each vector of a record.
        version: of the files.
    """

    teacher: Mapping[str, str]
    data: Mapping[str, str]
    transform: str
    drawn: str | None
    samples: int
    views: int
    classes: int
    top_k: int | None
    fields: Mapping[str, tuple[str, int]]
    version: int = VERSION

    def plain(self) -> dict[str, Any]:
        """Return what JSON reads back as an equal value."""
        return dict(json.loads(json.dumps({"kind": KIND, **asdict(self)})))

    @property
    def key(self) -> str:
        """Return 12 hex digits that name this content."""
        text = json.dumps(self.plain(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def difference(expected: Manifest, found: Mapping[str, Any]) -> str | None:
    """Return in words what a cache was made for and what is wanted, where they differ; None where they do not."""
    wanted, there = _flat(expected.plain()), _flat(found)
    differing = [key for key in {**there, **wanted} if there.get(key) != wanted.get(key)]
    if not differing:
        return None
    first = "version" if "version" in differing else differing[0]
    rest = [key for key in differing if key != first]
    others = f" (and {', '.join(rest)})" if rest else ""
    return f"its {first} is {_short(there.get(first))}, and {_short(wanted.get(first))} is wanted{others}"


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the values of inner ones under ``outer.inner``."""
    out: dict[str, Any] = {}
    for key, below in value.items():
        out |= {f"{key}.{k}": v for k, v in below.items()} if isinstance(below, Mapping) else {key: below}
    return out


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 150 else f"{text[:147]}..."


def weights_hash(network: nn.Module, dtype: torch.dtype | None = None) -> str:
    """Return 16 hex digits of class, parameters and buffers of a network.

    Args:
        network: what is hashed.
        dtype: floating-point weights count as if they were of this one, so that the hash is the same before and after
            a network is moved to its precision; None for their own.
    """
    whole = hashlib.sha256(type(network).__name__.encode())
    for name, value in sorted(network.state_dict().items()):
        tensor = value.detach().cpu()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        whole.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        whole.update(tensor.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return whole.hexdigest()[:16]


def dataset_hash(images: Images) -> str:
    """Return 16 hex digits of the source of a split: the same for any part of it."""
    whole = hashlib.sha256(f"{images.source_size} {tuple(images.shape)}".encode())
    for piece in images.content():
        whole.update(piece)
    return whole.hexdigest()[:16]


def tensor_hash(value: Tensor) -> str:
    """Return 16 hex digits of the values of a tensor."""
    return hashlib.sha256(value.contiguous().numpy().data).hexdigest()[:16]


def described(value: object) -> str:
    """Return the class of an object and its arguments, inner objects too; ``none`` for None."""
    if value is None:
        return "none"
    if isinstance(value, Tensor):
        return tensor_hash(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(described, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {described(v)}" for k, v in sorted(value.items())) + "}"
    if hasattr(value, "__dict__") and not isinstance(value, type):
        arguments = ", ".join(f"{k}={described(v)}" for k, v in sorted(vars(value).items()))
        return f"{type(value).__qualname__}({arguments})"
    return repr(value)
