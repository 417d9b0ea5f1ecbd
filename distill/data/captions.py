"""Captions: sentences that say what is in a scene, so that an image-text model can be trained on scenes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from string import Formatter

import torch
from torch import Tensor

from distill.data.keyed import uniforms
from distill.data.scenes import Scenes

_STREAM = 128  # of the first draw; those of the scenes come before
Box = Sequence[int]


class Rows:
    """Gives every different text a row, in the order in which they come."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Return the row of a text."""
        return self._known.setdefault(text, len(self._known))

    @property
    def texts(self) -> tuple[str, ...]:
        """Texts in the order of their rows."""
        return tuple(self._known)


def article(text: str) -> str:
    """Return a text with ``an`` for ``a`` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def spoken(name: str) -> str:
    """Return the name of a class as it is said: ``maple_tree`` is ``maple tree``."""
    return name.replace("_", " ")


def check_templates(templates: Sequence[str], key: str, words: Sequence[str]) -> None:
    """Look whether templates are templates.

    Args:
        templates: such as ``a photo of a {fine}``.
        key: where they stand in the config.
        words: what may stand in braces; each template must have one of them.

    Raises:
        ValueError: names the first that is none, and what it may have.
    """
    if not templates:
        raise ValueError(f"{key}=[]: has no template; give one, such as 'a photo of a {{{words[0]}}}'")
    for template in templates:
        try:
            found = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        except ValueError:
            found = []
        if not found or not set(found) <= set(words):
            listed = " or ".join(f"{{{word}}}" for word in words)
            raise ValueError(f"{key}: template {template!r} must have {listed}, and nothing else in braces")


def caption(scenes: Scenes, size: tuple[int, int], names: Sequence[Sequence[str]], count: int, seed: int, split: int,
            rows: Rows) -> Tensor:  # fmt: skip
    """Return the rows of ``count`` different captions of each image ``(M, count)``, int64.

    Args:
        scenes: what is in the images.
        size: height and width in pixels.
        names: name of each pair, by colour and shape.
        count: captions an image, at most as many as there are templates.
        seed: of the data.
        split: number of the split.
        rows: where the texts go.
    """
    streams = range(_STREAM, _STREAM + len(TEMPLATES))
    draws = uniforms(seed, torch.full_like(scenes.number, split << 40), scenes.number, streams).T
    chosen = draws.argsort(1)[:, :count].tolist()
    found = []
    for objects, kinds, colors, boxes, which in zip(
        scenes.objects.tolist(), scenes.shape.tolist(), scenes.color.tolist(), scenes.box.tolist(), chosen, strict=True
    ):
        said = [names[colors[i]][kinds[i]] for i in range(objects)]
        found.append([rows(article(TEMPLATES[i](said, boxes[:objects], size))) for i in which])
    return torch.tensor(found, dtype=torch.int64).view(len(found), count)


def listed(words: Sequence[str]) -> str:
    """Return words as an enumeration, the last two joined by ``and``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def relation(one: Box, other: Box) -> str:
    """Return where a box is as seen from another, along the axis on which their centres are further apart."""
    across, down = ((one[i] + one[i + 2] - other[i] - other[i + 2]) for i in (0, 1))
    if abs(across) >= abs(down):
        return "left of" if across < 0 else "right of"
    return "above" if down < 0 else "below"


def place(box: Box, size: tuple[int, int]) -> str:
    """Return in which ninth of the image the centre of a box lies."""
    across, down = ((box[i] + box[i + 2]) * 3 // (2 * size[1 - i]) for i in (0, 1))
    words = [("top", "", "bottom")[down], ("left", "", "right")[across]]
    return f"at the {' '.join(filter(None, words))}" if any(words) else "in the middle"


def _all(said: Sequence[str], boxes: Sequence[Box], size: tuple[int, int]) -> str:
    return listed([f"a {name}" for name in said])


def _in_order(said: Sequence[str], boxes: Sequence[Box], size: tuple[int, int]) -> str:
    order = sorted(range(len(said)), key=lambda i: boxes[i][0] + boxes[i][2])
    return f"from left to right {listed([f'a {said[i]}' for i in order])}"


def _sizes(said: Sequence[str], boxes: Sequence[Box], size: tuple[int, int]) -> str:
    return listed([f"a large {said[0]}", *[f"a small {name}" for name in said[1:]]])


def _largest(said: Sequence[str], boxes: Sequence[Box], size: tuple[int, int]) -> str:
    return f"the largest object is a {said[0]}"


def _placed(said: Sequence[str], boxes: Sequence[Box], size: tuple[int, int]) -> str:
    return f"a {said[0]} {place(boxes[0], size)}"


def _related(said: Sequence[str], boxes: Sequence[Box], size: tuple[int, int]) -> str:
    if len(said) == 1:
        return f"only a {said[0]}"
    return f"a {said[0]} {relation(boxes[0], boxes[1])} a {said[1]}"


TEMPLATES: tuple[Callable[[Sequence[str], Sequence[Box], tuple[int, int]], str], ...] = (
    _all, _in_order, _sizes, _largest, _placed, _related,
)  # fmt: skip
"""Each makes a caption from names and boxes of the objects, the largest first, and the size of the image."""
