"""Overlays: pictures of where teacher and student look in test images, before the first step and after the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger
from torch import Tensor

from distill.aligning import advice
from distill.config import ConfigError
from distill.data.base import ImageData, Views
from distill.modules.cross_modal import MAP, CrossModal
from distill.modules.map_quality import target_attention
from distill.networks.aligned import Aligned
from distill.outputs import Anchors, Batch, Outputs
from distill.pictures import Picture, draw, pictures, varied
from distill.pointing import POINTER, pointers, pooled
from distill.taps import Tapped
from distill.teachers.base import Teacher

if TYPE_CHECKING:
    from distill.assemble import Parts

FOLDER = "overlays"


class Source(Protocol):
    """What has something to show of a training."""

    def pictures(self, batch: Batch) -> list[Picture]:
        """Return what is drawn of a batch, with the student as it is at the moment."""


class ClassMaps:
    """Where the class of an image is, by the map of an image-text teacher and by that of an aligned student.

    Args:
        module: of the training.
        classes: their names.
    """

    def __init__(self, module: CrossModal, classes: Sequence[str]) -> None:
        self.module, self.classes = module, classes

    @classmethod
    def of(cls, parts: Parts) -> ClassMaps | None:
        """Return what shows the maps of a training; None where it has none."""
        return cls(parts.module, parts.data.classes) if isinstance(parts.module, CrossModal) else None

    def pictures(self, batch: Batch) -> list[Picture]:
        module, tap = self.module, self.module.teacher_map
        found: dict[str, Tensor] = {}
        if tap is not None:
            found[f"teacher, {tap}"] = module.teacher.look(batch, [tap]).features[tap]
        found["student"] = asked(module.student, batch).features[MAP]
        maps = {name: weights(dense, module.anchors, batch.target) for name, dense in found.items()}
        each = [{name: places[i] for name, places in maps.items()} for i in range(len(batch.target))]
        return pictures(batch, [self.classes[k] for k in batch.target.tolist()], each)


class Attention:
    """Where networks that attend look for the answer to a question about an image, and what they answer.

    Args:
        student: the network that learns; drawn where it attends.
        teachers: by name, those that attend.
        data: of the questions.
    """

    def __init__(self, student: Tapped, teachers: Mapping[str, Teacher], data: ImageData) -> None:
        self.student, self.teachers, self.data = student, teachers, data

    @classmethod
    def of(cls, parts: Parts) -> Attention | None:
        """Return what shows the attention of a training; None where nobody attends."""
        teachers = {name: teacher for name, teacher in parts.teachers.items() if pointers(teacher.network)}
        return cls(parts.student, teachers, parts.data) if teachers or POINTER in parts.student.taps else None

    def pictures(self, batch: Batch) -> list[Picture]:
        several = len(self.teachers) > 1
        said = {
            f"teacher {name}" if several else "teacher": teacher.look(batch, [POINTER])
            for name, teacher in self.teachers.items()
        }
        if POINTER in self.student.taps:
            said["student"] = asked(self.student, batch)
        maps: list[dict[str, Tensor]] = [{} for _ in batch.target]
        for name, outputs in said.items():
            answers, looks = outputs.logits.argmax(1), pooled(outputs.features[POINTER])
            for own, look, k, good in zip(maps, looks, answers.tolist(), right(answers, batch).tolist(), strict=True):
                own[f"{name}: {self.data.classes[k]}{'' if good else ' (wrong)'}"] = look
        return pictures(batch, self._words(batch), maps)

    def _words(self, batch: Batch) -> list[str]:
        """Return what is asked of each image and what is right; the class alone where nothing is asked."""
        known = right(batch.target, batch).tolist()
        names = [self.data.classes[k] for k in batch.target.tolist()]
        answers = [name if good else "(no known answer)" for name, good in zip(names, known, strict=True)]
        if batch.text is None or not self.data.asks:
            return answers
        asked_of = [self.data.texts[row] for row in batch.text.tolist()]
        return [f"{question}\n{answer}" for question, answer in zip(asked_of, answers, strict=True)]


def right(answers: Tensor, batch: Batch) -> Tensor:
    """Return whether each answer ``(N,)`` is the right one, or one that gets credit where answers do."""
    if batch.scores is None:
        return answers == batch.target
    return batch.scores.gather(1, answers[:, None])[:, 0] > 0


def source(parts: Parts) -> Source | None:
    """Return what a training has to show; None where it has neither maps of classes nor attention."""
    return ClassMaps.of(parts) or Attention.of(parts)


def require_source(parts: Parts, images: int, student: Mapping[str, Any]) -> None:
    """Refuse pictures of a training that has nothing to show.

    Args:
        parts: of the training.
        images: how many are asked for.
        student: its node of the config.

    Raises:
        ConfigError: names the key and what would have something to show.
    """
    if source(parts) is not None:
        return
    anchors = {name: found for name, teacher in parts.teachers.items() if (found := teacher.anchors) is not None}
    if isinstance(parts.student.network, Aligned):
        fix = "take one image-text teacher such as teacher=[clip]"
    elif anchors:
        fix = f"take {advice(student, anchors)}"
    else:
        fix = "take student=aligned with an image-text teacher, or student=vqa_small with a dataset of questions"
    raise ConfigError(
        [f"overlays={images}: there is neither a map of classes nor attention to draw; {fix}; or overlays=0"]
    )


class Overlays(Callback):
    """Draws a few test images, of different classes where there are, into the folder of the run.

    Args:
        folder: of the run; the pictures go to ``overlays/before.png``, drawn before the first optimizer step and not
            where a training is resumed, and ``overlays/last.png``, and to W&B where that is the logger.
        data: with the test images.
        images: how many.
        shown: what is drawn of them.
    """

    def __init__(self, folder: Path, data: ImageData, images: int, shown: Source) -> None:
        self.folder, self.data, self.images, self.shown = folder / FOLDER, data, images, shown

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.global_step:
            self._draw(trainer, pl_module.device, "before", "before the first step")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw(trainer, pl_module.device, "last", "after the last epoch")

    def _draw(self, trainer: pl.Trainer, device: torch.device, name: str, title: str) -> None:
        if not trainer.is_global_zero:
            return
        path, split = self.folder / f"{name}.png", self.data.splits["test"]
        chosen = varied(split.target, self.images).tolist()
        batch = Views(split, None, self.data.seed).__getitems__([(i, 0) for i in chosen])
        draw(self.shown.pictures(batch.to(device)), path, title)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image(f"overlays/{name}", [str(path)], trainer.global_step)


@torch.no_grad()
def asked(student: Tapped, batch: Batch) -> Outputs:
    """Return what a student says of a batch in eval mode; it is left as it was."""
    training = student.training
    student.eval()
    found = student(batch.inputs, batch.text)
    student.train(training)
    return found


def weights(maps: Tensor, anchors: Anchors, target: Tensor) -> Tensor:
    """Return the distribution over places of each sample's class ``(N, h, w)``, of maps ``(N, D, h, w)``."""
    return target_attention(maps, anchors, target).exp().unflatten(1, tuple(maps.shape[-2:]))
