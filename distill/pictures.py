"""Pictures: test images with a box, words and maps laid over them, a row an image, as PNG."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from distill.outputs import Batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 26
"""Letters of a title in the width of a column."""


class Picture(NamedTuple):
    """What is drawn of one image.

    Attributes:
        image: pixels ``(H, W, 3)`` in [0, 1].
        words: what stands above it: the class or the question that the maps are of.
        box: left, top, right, bottom as shares; None where there is none.
        maps: by title, weight of each place ``(h, w)``, 0 and above.
    """

    image: Tensor
    words: str
    box: tuple[float, ...] | None
    maps: Mapping[str, Tensor]


def draw(pictures: Sequence[Picture], path: Path, title: str) -> None:
    """Write one PNG: a row an image, the image with its box and words, then each of its maps laid over it in grey.

    Places are drawn as they are, not smoothed; each map is scaled by its own largest value.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 + max(len(picture.maps) for picture in pictures)
    lines = max(len(_lines(words)) for picture in pictures for words in (picture.words, *picture.maps))
    figure = Figure(figsize=(2.1 * columns, (2.15 + 0.15 * lines) * len(pictures) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    for row, picture in zip(axes, pictures, strict=True):
        for axis in row:
            axis.set_axis_off()
        _show(row[0], picture, picture.words)
        for axis, (name, weights) in zip(row[1:], picture.maps.items(), strict=False):
            _show(axis, picture._replace(image=picture.image.mean(2, keepdim=True).expand(-1, -1, 3)), name)
            height, width = picture.image.shape[:2]
            shown = weights / weights.max().clamp_min(1e-12)
            over = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "vmin": 0, "vmax": 1}
            axis.imshow(shown.numpy(), cmap="inferno", alpha=0.65, interpolation="nearest", **over)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _lines(words: str) -> list[str]:
    """Return the lines of a title, none of them wider than its column."""
    return [part for line in words.splitlines() for part in textwrap.wrap(line, LINE)]


def _show(axis: Axes, picture: Picture, words: str) -> None:
    from matplotlib.patches import Rectangle

    height, width = picture.image.shape[:2]
    axis.imshow(picture.image.numpy(), interpolation="nearest")
    axis.set_title("\n".join(_lines(words)), fontsize=9, parse_math=False)  # a question may be about dollars
    if picture.box is not None:
        left, top, right, bottom = picture.box
        corner = left * width - 0.5, top * height - 0.5
        size = (right - left) * width, (bottom - top) * height
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#56B4E9", linewidth=1.5))


def pictures(batch: Batch, words: Sequence[str], maps: Sequence[Mapping[str, Tensor]]) -> list[Picture]:
    """Return what is drawn of each image of a batch.

    Args:
        batch: images of one or three channels.
        words: above each image.
        maps: of each image, by title, ``(h, w)``.
    """
    pixels = batch.inputs.float().cpu() / (255 if batch.inputs.dtype == torch.uint8 else 1)
    boxes = torch.full((len(pixels), 4), math.nan) if batch.box is None else batch.box.cpu()
    return [
        Picture(
            image.expand(3, -1, -1).movedim(0, -1).clamp(0, 1),
            said,
            None if box.isnan().any() else tuple(box.tolist()),
            {name: found.float().cpu() for name, found in own.items()},
        )
        for image, said, box, own in zip(pixels, words, boxes, maps, strict=True)
    ]


def varied(target: Tensor, count: int) -> Tensor:
    """Return positions of ``count`` samples, the first of each class before the second of any."""
    seen: dict[int, int] = {}
    turn = []
    for k in target.tolist():
        seen[k] = seen.get(k, -1) + 1
        turn.append(seen[k])
    return torch.tensor(turn).argsort(stable=True)[:count]
