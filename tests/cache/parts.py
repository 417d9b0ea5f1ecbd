"""A small cache for tests: a teacher that counts what it is asked, and data that are a part of their source."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.cache.fill import fill
from distill.cache.manifest import Manifest, dataset_hash, described
from distill.cache.store import Store
from distill.cache.teacher import Cached
from distill.cache.views import Cycled, Finite, Slots
from distill.data.augment import Augment, CropFlip
from distill.data.base import Views
from distill.data.images import ArrayImages
from distill.outputs import Batch, InputSpec, Outputs, Spec
from distill.teachers.base import Teacher

CLASSES, SOURCE, TAKEN, SHAPE = 10, 1700, 1500, (1, 8, 8)


class Counting(Teacher):
    """Answers with a fixed projection of the pixels; writes the slots that it computes to a file, each call at once."""

    def __init__(self, log: Path, seconds: float = 0.0) -> None:
        self.log, self.seconds = log, seconds
        self.weight = torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(1))
        self.sizes: list[int] = []

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        pass

    def identity(self) -> Mapping[str, str]:
        return {"network": "Counting"}

    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        return {"logits": Spec((CLASSES,)), "pooled": Spec((3,))}

    def to(self, device: torch.device) -> None:
        pass

    def answer(self, images: Tensor) -> Outputs:
        logits = (images.double().flatten(1) / 255) @ self.weight.double()
        return Outputs(logits.float(), {"pooled": logits[:, :3].float()})

    def __call__(self, batch: Batch) -> Outputs:
        self.sizes.append(len(batch.inputs))
        time.sleep(self.seconds)
        if batch.slot is not None:
            with self.log.open("ab") as file:
                os.write(file.fileno(), batch.slot.unique().numpy().tobytes())
        return self.answer(batch.inputs)


def computed(log: Path) -> Tensor:
    """Return every slot that was computed, as often as it was."""
    content = log.read_bytes() if log.exists() else b""
    return torch.frombuffer(bytearray(content), dtype=torch.int64) if content else torch.zeros(0, dtype=torch.int64)


def split() -> ArrayImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (SOURCE, *SHAPE), dtype=torch.uint8, generator=generator)
    rows = torch.randperm(SOURCE, generator=generator)[:TAKEN]
    return ArrayImages(images, torch.zeros(TAKEN, dtype=torch.int64), (), rows)


def manifest(slots: Slots, augment: Augment | None, **changed: Any) -> Manifest:
    fields = {"logits": ("float32", CLASSES), "pooled": ("float16", 3)}
    content: dict[str, Any] = {
        "teacher": {"network": "Counting", "weights": "abc"}, "data": {"hash": dataset_hash(split())},
        "transform": described(augment), "drawn": None, "samples": SOURCE, "views": slots.views, "classes": CLASSES,
        "top_k": None, "fields": fields,
    }  # fmt: skip
    return Manifest(**{**content, **changed})


def make(folder: Path, seconds: float = 0.0, batch_size: int = 100, cycle: int = 0) -> tuple[Cached, Views]:
    augment = CropFlip(1, flip=False)
    slots = Cycled(cycle, SOURCE) if cycle else Finite(augment, SHAPE, SOURCE)
    store = Store.open(folder / "cache", manifest(slots, augment), say=lambda text: None)
    cached = Cached(Counting(folder / "log", seconds), store, slots, batch_size)
    return cached, Views(split(), augment, 0, slots=slots)


def stream(views: Views, epochs: int, size: int = 250) -> Iterable[Batch]:
    """Give the batches of so many epochs, each in another order."""
    for epoch in range(epochs):
        order = torch.randperm(len(views), generator=torch.Generator().manual_seed(epoch))
        for index in order.split(size):
            yield views.make(index, torch.full_like(index, epoch))


def main(how: str, folder: Path, seconds: float) -> None:
    """Fill ahead, or lazily, in a process of its own; leave the number of forwards in a file."""
    cached, views = make(folder, seconds)
    if how == "ahead":
        fill(cached, views, 100, lambda done, total: None)
    else:
        for batch in stream(views, 3):
            cached.prefetch([batch])
    (folder / f"forwards-{os.getpid()}").write_text(str(cached.forwards))


def hold(folder: Path, block: int) -> None:
    """Hold a block until the process is killed."""
    cached, _ = make(folder)
    with cached.store.block(block, wait=False) as held:
        (folder / "held").write_text(str(held))
        time.sleep(60)
