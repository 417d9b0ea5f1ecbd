"""Cached: a teacher whose answers are looked up, and computed only where nobody has asked before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill.cache import topk
from distill.cache.store import Store
from distill.cache.views import Slots
from distill.outputs import Anchors, Batch, InputSpec, Outputs, Spec
from distill.teachers.base import Teacher

if TYPE_CHECKING:
    from distill.data.base import ImageData


class Cached(Teacher):
    """A teacher in front of a store of its answers; without a graph, like the teacher.

    Answers always come out of the store, so a student is told the same by an answer that was just computed and by one
    that was kept.

    Args:
        teacher: answers what the store does not have, and whatever has no slot, such as test images.
        store: with this teacher's answers.
        slots: numbers the views; the loader of the training data has the same.
        batch_size: of the teacher when a training asks; always full, so that answers are those of a run without a
            cache, where they depend on the shape of a batch at all.

    Attributes:
        forwards: images that the teacher was shown in order to fill the store, without those that fill up a batch.
    """

    def __init__(self, teacher: Teacher, store: Store, slots: Slots, batch_size: int) -> None:
        self.teacher, self.store, self.slots, self.batch_size = teacher, store, slots, batch_size
        self.network, self.dtype = teacher.network, teacher.dtype
        self.device = torch.device("cpu")
        self.forwards = 0
        self._ready: dict[int, tuple[Tensor, Outputs]] = {}

    @property
    def sees_pixels(self) -> bool:
        return self.teacher.sees_pixels

    @property
    def anchors(self) -> Anchors | None:
        return self.teacher.anchors

    def identity(self) -> Mapping[str, str]:
        return self.teacher.identity()

    def meet(self, data: ImageData) -> None:
        self.teacher.meet(data)

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        """Pass on to the teacher."""
        self.teacher.read(input_spec, taps)

    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        """Return the teacher's shapes of logits and taps."""
        return self.teacher.specs(shape)

    def look(self, batch: Batch, taps: Sequence[str]) -> Outputs:
        return self.teacher.look(batch, taps)

    def to(self, device: torch.device) -> None:
        """Move the teacher to ``device``."""
        self.device = device
        self.teacher.to(device)

    def prefetch(self, batches: Sequence[Batch]) -> None:
        """Look up the answers for training batches at once; they are kept until the next prefetch.

        Raises:
            ValueError: when a record is damaged, or an answer cannot be kept.
        """
        asked = [(batch, batch.slot) for batch in batches if batch.slot is not None]
        self._ready = {}
        if not asked:
            return
        slots = torch.cat([slot for _, slot in asked])
        found, values = self.store.look(slots)
        if not bool(found.all()):
            self._fill(_joined([batch for batch, _ in asked], slots))
            _, values = self.store.look(slots)
        whole = self._outputs(values, asked[0][0].inputs.device)
        first = 0
        for batch, slot in asked:
            part = slice(first, first + len(slot))
            features = {name: value[part] for name, value in whole.features.items()}
            # the index is kept with it: its id is of no other tensor as long as it lives
            self._ready[id(batch.index)] = batch.index, Outputs(whole.logits[part], features)
            first += len(slot)

    def __call__(self, batch: Batch) -> Outputs:
        """Return what was looked up, or is looked up now; the teacher answers for a batch without slots."""
        if batch.slot is None:
            return self.teacher(batch)
        if id(batch.index) not in self._ready:
            self.prefetch([batch])
        return self._ready[id(batch.index)][1]

    def fill(self, batch: Batch, batch_size: int) -> None:
        """Compute and keep the answers for a batch, without those that are there; the caller holds the lock.

        Args:
            batch: its slots are different ones.
            batch_size: images that the teacher is shown at a time.
        """
        slots = batch.slot
        if slots is None:
            raise ValueError("a batch without slots has no place in a cache")
        missing = (~self.store.there(slots)).nonzero()[:, 0]
        for chosen in missing.split(batch_size) if len(missing) else ():  # nothing splits into one empty part
            repeated = torch.from_numpy(np.resize(chosen.numpy(), batch_size))
            where = repeated.to(batch.index.device)
            outputs = self.teacher(batch.take(where))
            own = len(chosen)
            self.store.put(slots[chosen], self._values(outputs, own))
            self.forwards += own

    def _fill(self, batch: Batch) -> None:
        assert batch.slot is not None
        with self.store.filling():
            _, first = np.unique(batch.slot.numpy(), return_index=True)
            once = torch.from_numpy(np.sort(first))  # in the order in which they were asked
            where = once.to(batch.index.device)
            self.fill(batch.take(where), self.batch_size)

    def _values(self, outputs: Outputs, count: int) -> dict[str, Tensor]:
        k = self.store.manifest.top_k
        logits = outputs.logits[:count]
        kept = {"logits": logits} if k is None else topk.pack(logits, k)
        return kept | {name: value[:count] for name, value in outputs.features.items()}

    def _outputs(self, values: dict[str, Tensor], device: torch.device) -> Outputs:
        manifest = self.store.manifest
        logits = values["logits"] if manifest.top_k is None else topk.unpack(values, manifest.classes)
        features = {name: value.to(device) for name, value in values.items() if name.partition(".")[0] != "logits"}
        return Outputs(logits.to(device), features)


def _joined(batches: Sequence[Batch], slots: Tensor) -> Batch:
    """Return batches as one, with what a teacher looks at."""
    inputs, target, index, view = (torch.cat(parts) for parts in zip(*(b[:4] for b in batches), strict=True))
    texts = [batch.text for batch in batches if batch.text is not None]
    return Batch(inputs, target, index, view, slot=slots, text=torch.cat(texts) if texts else None)
