"""Sampler and loader: which samples make a batch, on every rank; and a loader that resumes inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from distill.data.keyed import permutation
from distill.outputs import Batch

Key = tuple[int, int]
"""Sample index and view."""


def _place() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def share(batch: list[int], rank: int, world: int) -> list[int]:
    """Return one rank's equal, contiguous part of a global batch; what does not divide evenly is left out."""
    part = len(batch) // world
    return batch[rank * part : (rank + 1) * part]


class TrainSampler(Sampler[list[Key]]):
    """Batches of (index, view) in an order that only seed and epoch decide; a rank gets its share of each global batch.

    Args:
        size: number of samples.
        batch_size: samples of a global batch, over all ranks.
        seed: the run's seed.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch = 0
        self.start = 0
        self.sampler = self  # where Lightning looks for set_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, which is also the view of every sample in it."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        world = _place()[1]
        full, rest = divmod(self.size, self.batch_size)
        return full + (rest >= world)

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = _place()
        if self.batch_size % world:
            raise ValueError(
                f"dataset.batch_size={self.batch_size} is the batch of all devices together and must divide by their "
                f"number, {world}"
            )
        order = permutation(self.size, self.seed, self.epoch).tolist()
        for number in range(self.start, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield [(index, self.epoch) for index in share(batch, rank, world)]


class EvalSampler(Sampler[list[Key]]):
    """Batches in the order of the split, view 0, dealt to the ranks without duplicates or padding."""

    def __init__(self, size: int, batch_size: int) -> None:
        self.size, self.batch_size = size, batch_size

    def _mine(self) -> range:
        rank, world = _place()
        return range(rank * self.size // world, (rank + 1) * self.size // world)

    def __len__(self) -> int:
        return -(-len(self._mine()) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        mine = self._mine()
        for start in range(0, len(mine), self.batch_size):
            yield [(index, 0) for index in mine[start : start + self.batch_size]]


def _as_it_is(batch: Any) -> Any:
    return batch


class Loader(DataLoader[Batch]):
    """A loader whose position in an epoch is part of a checkpoint.

    Args:
        dataset: its ``__getitems__`` makes a whole batch from a list of (index, view).
        sampler: batches of (index, view).
        workers: processes that make batches; 0 makes them in this one.
    """

    def __init__(self, dataset: Dataset, sampler: TrainSampler | EvalSampler, workers: int) -> None:
        # a generator of its own: iterating must not draw from the global one, or resuming would shift dropout
        super().__init__(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_as_it_is,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(0),
        )
        self.keys = sampler
        self._given = 0

    def __iter__(self) -> Any:
        self._given = self.keys.start if isinstance(self.keys, TrainSampler) else 0
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches given in it."""
        return {"epoch": getattr(self.keys, "epoch", 0), "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that a checkpoint had seen."""
        if isinstance(self.keys, TrainSampler):
            self.keys.epoch, self.keys.start = state["epoch"], state["batches"]
