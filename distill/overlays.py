"""Overlays: pictures of where teacher and student find the class of an image, after the first and the last epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from distill.data.base import ImageData
from distill.modules.cross_modal import MAP, CrossModal
from distill.modules.map_quality import target_attention
from distill.outputs import Anchors, Batch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FOLDER = "overlays"


class Picture(NamedTuple):
    """What is drawn of one image.

    Attributes:
        image: pixels ``(H, W, 3)`` in [0, 1].
        word: name of its class, or whichever words the maps are of.
        box: left, top, right, bottom as shares; None where there is none.
        maps: by title, weight of each place ``(h, w)``, 0 and above.
    """

    image: Tensor
    word: str
    box: tuple[float, ...] | None
    maps: dict[str, Tensor]


def draw(pictures: Sequence[Picture], path: Path, title: str) -> None:
    """Write one PNG: a row an image, the image with its box and word, then each of its maps laid over it in grey.

    Places are drawn as they are, not smoothed; each map is scaled by its own largest value.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 + max(len(picture.maps) for picture in pictures)
    figure = Figure(figsize=(2.1 * columns, 2.3 * len(pictures) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(pictures), columns, squeeze=False)
    for row, picture in zip(axes, pictures, strict=True):
        for axis in row:
            axis.set_axis_off()
        _show(row[0], picture, picture.word)
        for axis, (name, weights) in zip(row[1:], picture.maps.items(), strict=False):
            _show(axis, picture._replace(image=picture.image.mean(2, keepdim=True).expand(-1, -1, 3)), name)
            height, width = picture.image.shape[:2]
            shown = weights / weights.max().clamp_min(1e-12)
            over = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "vmin": 0, "vmax": 1}
            axis.imshow(shown.numpy(), cmap="inferno", alpha=0.65, interpolation="nearest", **over)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _show(axis: Axes, picture: Picture, title: str) -> None:
    from matplotlib.patches import Rectangle

    height, width = picture.image.shape[:2]
    axis.imshow(picture.image.numpy(), interpolation="nearest")
    axis.set_title(title, fontsize=9)
    if picture.box is not None:
        left, top, right, bottom = picture.box
        corner = left * width - 0.5, top * height - 0.5
        size = (right - left) * width, (bottom - top) * height
        axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor="#56B4E9", linewidth=1.5))


class Overlays(Callback):
    """Draws the maps of a few test images, of different classes where there are, into the folder of the run.

    Args:
        folder: of the run; the pictures go to ``overlays/epoch_0001.png`` and ``overlays/last.png``, and to W&B where
            that is the logger.
        data: with the test images.
        images: how many.
    """

    def __init__(self, folder: Path, data: ImageData, images: int) -> None:
        self.folder, self.data, self.images = folder / FOLDER, data, images
        self._batch: Batch | None = None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.current_epoch:
            self._draw(trainer, pl_module, "epoch_0001", "after the first epoch")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, pl_module, "last", "after the last epoch")

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule, name: str, title: str) -> None:
        if not trainer.is_global_zero or not isinstance(module, CrossModal):
            return
        path = self.folder / f"{name}.png"
        draw(self._pictures(module), path, title)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"overlays/{name}", [str(path)])

    def _pictures(self, module: CrossModal) -> list[Picture]:
        if self._batch is None:
            whole = next(iter(self.data.loader("test")))
            self._batch = whole.take(varied(whole.target, self.images))
        batch, anchors = self._batch.to(module.device), module.anchors
        maps: dict[str, Tensor] = {}
        if module.teacher_map is not None:
            found = module.teacher.look(batch, [module.teacher_map]).features[module.teacher_map]
            maps[f"teacher, {module.teacher_map}"] = weights(found, anchors, batch.target)
        training = module.student.training
        module.student.eval()
        with torch.no_grad():
            dense = module.student(batch.inputs, batch.text).features[MAP]
        module.student.train(training)
        maps["student"] = weights(dense, anchors, batch.target)
        return pictures(batch, [self.data.classes[k] for k in batch.target.tolist()], maps)


def weights(maps: Tensor, anchors: Anchors, target: Tensor) -> Tensor:
    """Return the distribution over places of each sample's class ``(N, h, w)``, of maps ``(N, D, h, w)``."""
    return target_attention(maps, anchors, target).exp().unflatten(1, tuple(maps.shape[-2:]))


def pictures(batch: Batch, words: Sequence[str], maps: dict[str, Tensor]) -> list[Picture]:
    """Return what is drawn of each image of a batch.

    Args:
        batch: images of one or three channels.
        words: of each image.
        maps: by title, ``(N, h, w)``.
    """
    pixels = batch.inputs.float().cpu() / (255 if batch.inputs.dtype == torch.uint8 else 1)
    boxes = torch.full((len(pixels), 4), math.nan) if batch.box is None else batch.box.cpu()
    return [
        Picture(
            image.expand(3, -1, -1).movedim(0, -1).clamp(0, 1),
            words[i],
            None if boxes[i].isnan().any() else tuple(boxes[i].tolist()),
            {name: found[i].float().cpu() for name, found in maps.items()},
        )
        for i, image in enumerate(pixels)
    ]


def varied(target: Tensor, count: int) -> Tensor:
    """Return positions of ``count`` samples, the first of each class before the second of any."""
    seen: dict[int, int] = {}
    turn = []
    for k in target.tolist():
        seen[k] = seen.get(k, -1) + 1
        turn.append(seen[k])
    return torch.tensor(turn).argsort(stable=True)[:count]
