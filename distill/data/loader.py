"""Samplers and loaders: which samples make a batch, on every rank; and a loader that resumes inside an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor
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
        self._order: tuple[int, Tensor] | None = None

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

    def start(self) -> int:
        """Return the number of the first batch of the pass that begins; only the first after a resume starts late."""
        self.given, self.first = self.first, 0
        return self.given

    def batches(self, start: int, end: int) -> list[Tensor]:
        """Return the indices ``(n,)`` that are this rank's in each of the epoch's batches from ``start`` to ``end``."""
        rank, world = place()
        if self._order is None or self._order[0] != self.epoch:
            self._order = (self.epoch, permutation(self.size, self.seed, self.epoch))
        whole = self._order[1][start * self.batch_size : end * self.batch_size]
        parts = [(batch, len(batch) // world) for batch in whole.split(self.batch_size)]
        return [batch[rank * part : (rank + 1) * part] for batch, part in parts]

    def __iter__(self) -> Iterator[list[Key]]:
        start = self.start()
        for batch in self.batches(start, len(self)):
            yield [(index, self.epoch) for index in batch.tolist()]

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


@dataclass(frozen=True, eq=False)
class Plan:
    """Which samples make the next batches of an epoch, before their images are gathered.

    Attributes:
        first: number of the first of them in the epoch.
        total: number of batches of the epoch.
        epoch: counts from 0; also the view of every sample.
        indices: of the samples of each batch ``(n,)``; where workers make the images, nothing but the batches.
        batches: made already by workers.
    """

    first: int
    total: int
    epoch: int
    indices: list[Tensor]
    batches: list[Batch]


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive batches of an epoch on the device that trains: what one call of a training step gets.

    Attributes:
        first: number of the first of them in the epoch.
        total: number of batches of the epoch.
        batches: in order.
    """

    first: int
    total: int
    batches: list[Batch]


@dataclass(frozen=True)
class Pace:
    """How an epoch is cut into pieces.

    Attributes:
        chunk: batches of a piece.
        cut: no piece goes beyond a multiple of so many batches, because a checkpoint is saved there; None anywhere.
        limit: batches of an epoch at most: a number, or a share as a float.
    """

    chunk: int = 1
    cut: int | None = None
    limit: int | float = 1.0


class TrainLoader:
    """Gives an epoch in pieces of several batches; its position in the epoch is part of a checkpoint.

    A step is short and what Lightning does around each call is not, so a call gets as many batches as take long
    enough. Iterating gives a :class:`Plan` a piece; the data module makes a :class:`Chunk` of it on the device.

    Args:
        dataset: as in :class:`Loader`.
        sampler: decides the batches and keeps the position.
        workers: processes that make images; without any they are gathered on the device.
        pace: how many batches a piece has.
    """

    def __init__(self, dataset: Dataset[Batch], sampler: TrainSampler, workers: int, pace: Pace | None = None) -> None:
        self.dataset, self.sampler, self.workers = dataset, sampler, workers
        self.pace = pace or Pace()
        self._stream = Loader(dataset, sampler, workers) if workers else None

    @property
    def total(self) -> int:
        """Number of batches of an epoch."""
        whole, limit = len(self.sampler), self.pace.limit
        return min(limit, whole) if isinstance(limit, int) else max(int(limit * whole), 1)

    def _ends(self) -> list[int]:
        total, chunk, cut = self.total, self.pace.chunk, self.pace.cut
        ends = {*range(chunk, total, chunk), total}
        return sorted(ends | set(range(cut, total, cut)) if cut else ends)

    def __len__(self) -> int:
        return len(self._ends())

    def __iter__(self) -> Iterator[Plan]:
        # a generator: Lightning makes the iterator of an epoch before it calls set_epoch. Workers run ahead, so the
        # position counts what left this loop, not what the sampler made
        given = self.sampler.first
        made = iter(self._stream) if self._stream is not None else None
        if made is None:
            self.sampler.start()
        for end in [end for end in self._ends() if end > given]:
            batches = [] if made is None else [next(made) for _ in range(given, end)]
            indices = [] if made is not None else self.sampler.batches(given, end)
            plan = Plan(given, self.total, self.sampler.epoch, indices, batches)
            self.sampler.given = given = end
            yield plan

    def state_dict(self) -> dict[str, int]:
        """Return the position as plain numbers."""
        return {**self.sampler.state_dict(), "chunk": self.pace.chunk}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that a checkpoint had seen.

        Raises:
            ValueError: when they are not those of this run.
        """
        if state["chunk"] != self.pace.chunk:
            raise ValueError(
                f"the checkpoint was saved inside an epoch by a run that took {state['chunk']} steps at a time, this "
                f"one takes {self.pace.chunk}: set trainer.log_every_n_steps and the device back, or start from a "
                "checkpoint of an epoch's end"
            )
        self.sampler.load_state_dict(state)
