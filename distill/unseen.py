"""Unseen: whether a student that an image-text teacher taught knows, by name, classes no image of which it saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from distill.assemble import Parts, make_data
from distill.config import Config, ConfigError
from distill.data.base import ImageData
from distill.evaluate import moved
from distill.networks.aligned import Aligned
from distill.open_vocabulary import embedded

KEY = "unseen_classes"


def require(cfg: Config, parts: Parts) -> None:
    """Refuse what could not be tested once a training is over.

    Raises:
        ConfigError: when no text of a teacher can be compared with the student's vectors, or a class does not exist.
    """
    if not cfg[KEY]:
        return
    if not isinstance(parts.student.network, Aligned) or _encoder(parts) is None:
        raise ConfigError(
            [f"{KEY}={cfg[KEY]}: names need student=aligned and a teacher that embeds them, such as teacher=[clip]"]
        )
    try:
        data(cfg).splits  # noqa: B018 - reading is what finds a class that is not there
    except ValueError as error:
        raise ConfigError([f"{KEY}={cfg[KEY]}: {error}"]) from error


def data(cfg: Config) -> ImageData:
    """Return the dataset of a config with the unseen classes in place of those of the training."""
    node = {**cfg["dataset"], "class_subset": list(cfg[KEY]), "num_classes": len(cfg[KEY]), "train_size": None}
    return make_data({**cfg, "dataset": node})


def accuracy(cfg: Config, parts: Parts, device: torch.device) -> float:
    """Return the percentage of test images of unseen classes that go best with the name of their own among them."""
    encode, other = _encoder(parts), data(cfg)
    assert encode is not None
    vectors = encode(other.classes).float().cpu()
    found = embedded(parts.student, moved(other.loader("test"), device)) @ vectors.T
    target: Tensor = other.splits["test"].target.cpu()
    return 100 * (found.argmax(1) == target).float().mean().item()


def _encoder(parts: Parts) -> Callable[[Sequence[str]], Tensor] | None:
    """Return what the student's teacher makes of class names ``(K, D)``; None where none embeds them."""
    anchor = getattr(parts.student.network, "anchor", None)
    for name, teacher in parts.teachers.items():
        encode: Callable[[Sequence[str]], Tensor] | None = getattr(teacher.network, "encode_classes", None)
        if anchor in (None, name) and encode is not None:
            return encode
    return None
