"""fill: every view of every sample of a split, before training, by as many processes as want to take part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from distill.cache.store import BLOCK
from distill.cache.teacher import Cached
from distill.data.base import Views
from distill.heap import keep_freed


@dataclass(frozen=True)
class Filled:
    """What filling took.

    Attributes:
        records: that are needed and are there now.
        forwards: that this process computed; the others were there, or another process computed them.
        seconds: of this process.
    """

    records: int
    forwards: int
    seconds: float


def fill(cached: Cached, views: Views, batch_size: int, progress: Callable[[int, int], None]) -> Filled:
    """Compute whatever a cache does not have of a split.

    Several processes divide the work by blocks, which they lock; a process that dies leaves its block to the others.
    A batch is kept as soon as it is computed, so a run that is interrupted goes on from there.

    Args:
        cached: the teacher and its store, on the device that computes.
        views: of the split.
        batch_size: images that the teacher is shown at a time.
        progress: told how many records were looked after so far, and how many there are.
    """
    began, before = perf_counter(), cached.forwards
    if cached.device.type == "cpu":
        keep_freed()
    store = cached.store
    members = _members(views.ids, store.blocks_per_view)
    total = store.manifest.views * sum(map(len, members))
    done = 0
    held_by_others: list[int] = []

    def work(block: int, wait: bool) -> bool:
        """Return whether the block is complete."""
        number, part = divmod(block, store.blocks_per_view)
        index = members[part]
        slots = views.ids[index] + number * store.manifest.samples
        missing = index[~store.there(slots)]
        if not len(missing):
            return True
        with store.block(block, wait) as held:
            if held:
                missing = index[~store.there(slots)]  # another process may have been here a moment ago
                for chosen in missing.split(batch_size) if len(missing) else ():
                    cached.fill(cached.slots.batch(views, chosen, number, cached.device), batch_size)
            return held

    for wait, blocks in ((False, range(store.blocks)), (True, held_by_others)):
        for block in blocks:
            if work(block, wait):
                done += len(members[block % store.blocks_per_view])
                progress(done, total)
            else:
                held_by_others.append(block)
    return Filled(total, cached.forwards - before, perf_counter() - began)


def _members(ids: Tensor, blocks: int) -> list[Tensor]:
    """Return the positions in a split of the samples of each block, in the order of the source."""
    order = ids.argsort(stable=True)
    edges = torch.arange(1, blocks) * BLOCK
    return list(order.tensor_split(torch.searchsorted(ids[order], edges)))
