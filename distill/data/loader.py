"""Samplers and loader: which samples make a batch, on every rank; and a loader that resumes inside an epoch."""

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


def place() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks; read when it matters, for ranks start after loaders."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class TrainSampler(Sampler[list[Key]]):
    """Batches of (index, view) in an order that seed and epoch decide; each rank takes an equal share of each batch.

    An epoch has no duplicate. The last batch may be smaller; what is too much for equal shares is left out of it.

    Args:
        size: number of samples.
        batch_size: samples of a batch over all ranks together.
        seed: the run's seed.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.epoch = 0
        self.first = 0
        self.given = 0

    @property
    def sampler(self) -> TrainSampler:
        """Where Lightning looks for ``set_epoch``."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, which is also the view of every sample in it."""
        if epoch != self.epoch:
            self.epoch, self.first, self.given = epoch, 0, 0

    def __len__(self) -> int:
        world = place()[1]
        if self.batch_size % world:
            raise ValueError(
                f"dataset.batch_size={self.batch_size} is the batch of all {world} devices together: "
                f"choose a multiple of {world}"
            )
        full, rest = divmod(self.size, self.batch_size)
        batches = full + (rest >= world)
        if not batches:
            raise ValueError(f"the train split has {self.size} images, too few for {world} devices; use fewer devices")
        return batches

    def __iter__(self) -> Iterator[list[Key]]:
        rank, world = place()
        # only the first pass after a resume starts late; the batches it skips count as given
        self.given, self.first = self.first, 0
        order = permutation(self.size, self.seed, self.epoch).tolist()
        for number in range(self.given, len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            part = len(batch) // world
            yield [(index, self.epoch) for index in batch[rank * part : (rank + 1) * part]]

    def state_dict(self) -> dict[str, int]:
        """Return what decides the order, and the number of batches that were given in it."""
        return {
            "seed": self.seed, "size": self.size, "batch_size": self.batch_size,
            "epoch": self.epoch, "given": self.given,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next pass after the batches that were given.

        Raises:
            ValueError: when the order is another one now, so that this point is not in it.
        """
        for key, now in (("dataset.batch_size", self.batch_size), ("seed", self.seed), ("train images", self.size)):
            saved = state[{"dataset.batch_size": "batch_size", "train images": "size"}.get(key, key)]
            if saved != now:
                raise ValueError(
                    f"{key}={now}, but the checkpoint was saved inside an epoch with {key}={saved}: "
                    "set it back, or start from a checkpoint of an epoch's end"
                )
        self.epoch, self.first = state["epoch"], state["given"]
        self.given = self.first


class EvalSampler(Sampler[list[Key]]):
    """Batches in the order of the split, view 0.

    Args:
        size: number of samples.
        batch_size: samples of a batch on one rank.
        sharded: deal the split to the ranks, each sample to exactly one; else every rank gets the whole.
    """

    def __init__(self, size: int, batch_size: int, sharded: bool) -> None:
        self.size, self.batch_size, self.sharded = size, batch_size, sharded

    def _mine(self) -> range:
        rank, world = place() if self.sharded else (0, 1)
        if self.size < world:
            raise ValueError(f"an evaluation split has {self.size} images, too few for {world} devices; use fewer")
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
    """A loader of whole batches.

    Args:
        dataset: its ``__getitems__`` makes a batch from a list of (index, view).
        sampler: lists of (index, view).
        workers: processes that make batches; 0 makes them in this one.
    """

    def __init__(self, dataset: Dataset[Batch], sampler: Sampler[list[Key]], workers: int) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=_as_it_is,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            # of its own: drawing from the global one would shift dropout when a run resumes
            generator=torch.Generator().manual_seed(0),
        )


class TrainLoader(Loader):
    """A loader whose position in an epoch is part of a checkpoint, in the form that Lightning saves and restores.

    Args:
        dataset: as in :class:`Loader`.
        sampler: decides the batches and keeps the position.
        workers: as in :class:`Loader`.
    """

    def __init__(self, dataset: Dataset[Batch], sampler: TrainSampler, workers: int) -> None:
        super().__init__(dataset, sampler, workers)
        self.position = sampler

    def __iter__(self) -> Any:
        # a generator: Lightning makes the iterator of an epoch before it calls set_epoch. Workers run ahead, so the
        # count is of the batches that left this loop, not of those that the sampler made
        given = self.position.first
        for batch in super().__iter__():
            given += 1
            self.position.given = given
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the position as plain numbers."""
        return self.position.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that a checkpoint had seen."""
        self.position.load_state_dict(state)
