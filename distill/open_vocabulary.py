"""Open vocabulary: classes that a trained student was never told of, by their names, and images by what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.assemble import make_network
from distill.config import Config, ConfigError
from distill.networks.aligned import Aligned
from distill.outputs import Batch, Words
from distill.taps import Tapped, introduce

EMBEDDING = "image_embedding"


class TextTower(NamedTuple):
    """What a teacher makes of words.

    Attributes:
        encode: text vectors ``(K, D)`` of length 1 of K class names, in the teacher's prompts.
        read: those of texts as they are, where the teacher says so, else as of names.
        scale: what their cosines are multiplied by.
    """

    encode: Callable[[Sequence[str]], Tensor]
    read: Callable[[Sequence[str]], Tensor]
    scale: float


def text_tower(config: Config, words: Words) -> TextTower:
    """Return the text tower of the teacher that a student was trained with, built anew with its weights.

    Args:
        config: resolved config of the training.
        words: of the dataset.

    Raises:
        ConfigError: when no teacher of it embeds text, or its weights are gone.
    """
    named = config["student"].get("anchor")
    for name, node in config["teacher"].items():
        if node["network"] is None or named not in (None, name):
            continue
        path = node["checkpoint"]
        if path != "built" and not Path(path).is_file():
            raise ConfigError(
                [f"teacher.{name}.checkpoint={path}: is not there; say where it is, for names need its text tower"]
            )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network: Any = make_network(node["network"], f"teacher.{name}.network", None if path == "built" else path)
        if not hasattr(network, "encode_classes"):
            continue
        introduce(network.eval(), lambda: words)

        read = getattr(network, "encode_texts", network.encode_classes)
        return TextTower(_unit(network.encode_classes), _unit(read), float(network.anchors.scale))
    raise ConfigError(
        ["teacher: none of this training embeds words; names need a student that an image-text teacher taught"]
    )


def _unit(encode: Callable[[Sequence[str]], Tensor]) -> Callable[[Sequence[str]], Tensor]:
    """Return what gives vectors of length 1, without a gradient."""

    def encoded(words: Sequence[str]) -> Tensor:
        with torch.no_grad():
            return F.normalize(encode(list(words)).float(), dim=1)

    return encoded


def require_aligned(network: nn.Module) -> Aligned:
    """Return a student with vectors in a teacher's space.

    Raises:
        ConfigError: for another.
    """
    if not isinstance(network, Aligned):
        raise ConfigError(
            [f"student: {type(network).__name__} has no vectors to compare words with; train student=aligned"]
        )
    return network


@torch.no_grad()
def embedded(student: Tapped, batches: Iterable[Batch | Tensor]) -> Tensor:
    """Return the vectors ``(N, D)`` of length 1 of images, batch by batch, on the CPU."""
    require_aligned(student.network)
    found: list[Tensor] = []
    handle = student.network.get_submodule(EMBEDDING).register_forward_hook(
        lambda _, __, output: found.append(output.float().cpu())
    )
    try:
        for batch in batches:
            student(batch if isinstance(batch, Tensor) else batch.inputs)
    finally:
        handle.remove()
    return torch.cat(found)
