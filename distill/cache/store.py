"""Store: fixed-size records in one memory-mapped file, each with a checksum that also says whether it is there."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.cache import LOCK, MANIFEST, RECORDS, SUMS
from distill.cache.layout import Layout, Words
from distill.cache.locks import Locks
from distill.cache.manifest import Manifest, difference
from distill.records import write_json

BLOCK = 1024  # samples of one view that one process computes at a time
GB = 1e9
ANEW = "delete that folder to compute it again, or choose another with cache.folder"


def say_to_stderr(text: str) -> None:
    """Print a line for people."""
    print(text, file=sys.stderr, flush=True)


SMALLER = "set cache.views to fewer, cache.top_k, or cache.dtype=float16"


class Store:
    """An opened cache: ``look`` reads records, ``put`` adds them, locks divide the work of computing them.

    Records are written through the file and read through a map of it, so that a full disk is an error and not a
    signal that ends the process. Whoever reads looks at the checksum before the record, whoever writes does so after
    it, so a record that is being written is not there yet.

    Use :meth:`open`.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.layout = Layout(manifest.fields)
        self.slots = manifest.samples * manifest.views
        records = np.memmap(folder / RECORDS, np.uint64, "r", shape=(self.slots, self.layout.words))
        # plain arrays: a memmap makes an object of its own for everything that is taken from it
        self._records: Words = np.asarray(records)
        self._sums: NDArray[np.uint32] = np.asarray(np.memmap(folder / SUMS, np.uint32, "r", shape=(self.slots,)))
        self._writing: tuple[int, int] | None = None
        self._locks: Locks | None = None

    @classmethod
    def open(
        cls, folder: Path, manifest: Manifest, limit_gb: float = math.inf, say: Callable[[str], None] = say_to_stderr
    ) -> Store:
        """Return the cache in a folder, made empty where there is none.

        Args:
            folder: of this cache alone.
            manifest: what must be in it.
            limit_gb: a larger cache is not made.
            say: told the size before the files are made, by the process that makes them.

        Raises:
            ValueError: when the folder holds something else, files are truncated, or the cache would be too large.
        """
        sizes = _sizes(manifest)
        if not (folder / MANIFEST).is_file():
            _create(folder, manifest, sizes, limit_gb, say)
        _refuse(folder, manifest, sizes)
        return cls(folder, manifest)

    # -- records --------------------------------------------------------------------------------------------------

    def look(self, slots: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return which of the slots ``(n,)`` have a record ``(n,)``, and the values of all, 0 where there is none.

        Returns:
            Values ``(n, size)`` by the names of the fields, float32, int64 for integers.

        Raises:
            ValueError: names the sample and view of a record that is not what was written.
        """
        wanted = slots.numpy()
        sums = self._sums.take(wanted)
        records = self._records.take(wanted, 0)
        found = sums != 0
        wrong = (self.layout.checksums(records, wanted) != sums) & found
        if wrong.any():
            view, sample = divmod(int(wanted[wrong.argmax()]), self.manifest.samples)
            raise ValueError(f"cache {self.folder} is damaged: record of sample {sample}, view {view}; {ANEW}")
        return torch.from_numpy(found), self.layout.decode(records)

    def there(self, slots: Tensor) -> Tensor:
        """Return which of the slots ``(n,)`` have a record, without reading it."""
        return torch.from_numpy(self._sums.take(slots.numpy()) != 0)

    def put(self, slots: Tensor, values: Mapping[str, Tensor]) -> None:
        """Write the records of slots ``(n,)``; those that are there stay as they are.

        Raises:
            ValueError: when a value is not finite in the dtype that is kept.
            OSError: when the disk is full.
        """
        records = self.layout.encode(values)
        # a slot that is named twice has the same record twice
        order, first = np.unique(slots.numpy(), return_index=True)
        new = self._sums.take(order) == 0
        order, records = order[new], records[first[new]]
        sums = self.layout.checksums(records, order)
        data, marks = self._files()
        for begin, end in _runs(order):
            self._write(data, records[begin:end], int(order[begin]) * self.layout.words * 8)
        for begin, end in _runs(order):
            self._write(marks, sums[begin:end], int(order[begin]) * 4)

    def filled(self) -> int:
        """Return how many records there are."""
        return int(np.count_nonzero(self._sums))

    def _files(self) -> tuple[int, int]:
        if self._writing is None:
            data, marks = (os.open(self.folder / name, os.O_WRONLY | os.O_CLOEXEC) for name in (RECORDS, SUMS))
            self._writing = data, marks
            for descriptor in self._writing:
                weakref.finalize(self, os.close, descriptor)
        return self._writing

    def _write(self, descriptor: int, values: NDArray[Any], offset: int) -> None:
        left = np.ascontiguousarray(values).data.cast("B")
        try:
            while left:
                done = os.pwrite(descriptor, left, offset)
                left, offset = left[done:], offset + done
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(
                error.errno, f"cache {self.folder}: the disk is full; make room and run the same command to go on"
            ) from error

    # -- who computes what ----------------------------------------------------------------------------------------

    @property
    def blocks(self) -> int:
        """Number of blocks: the samples of each view by the thousand."""
        return self.manifest.views * self.blocks_per_view

    @property
    def blocks_per_view(self) -> int:
        """Number of blocks of one view."""
        return -(-self.manifest.samples // BLOCK)

    def filling(self) -> AbstractContextManager[None]:
        """Hold the whole cache: after it is had, look again, and compute only what is still missing."""
        return self._lock_file().all()

    def block(self, number: int, wait: bool) -> AbstractContextManager[bool]:
        """Try to hold one block, or wait for it; gives whether it is held."""
        return self._lock_file().one(number, wait)

    def _lock_file(self) -> Locks:
        # opened when it is needed: a complete cache can be read by those who may not write it
        if self._locks is None:
            self._locks = Locks(self.folder / LOCK)
        return self._locks


def _runs(order: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Give where each run of consecutive sorted slots begins and ends."""
    if len(order):
        breaks = np.flatnonzero(np.diff(order) != 1) + 1
        yield from zip([0, *breaks.tolist()], [*breaks.tolist(), len(order)], strict=True)


def _sizes(manifest: Manifest) -> dict[str, int]:
    slots = manifest.samples * manifest.views
    return {RECORDS: slots * Layout(manifest.fields).words * 8, SUMS: slots * 4}


def _create(
    folder: Path, manifest: Manifest, sizes: Mapping[str, int], limit_gb: float, say: Callable[[str], None]
) -> None:
    size = sum(sizes.values())
    what = f"teacher cache of {manifest.samples:,} samples x {manifest.views} views: {size / GB:.2f} GB in {folder}"
    if size > limit_gb * GB:
        raise ValueError(f"cache.limit_gb={limit_gb:g}: a {what} is larger; raise it, or {SMALLER}")
    _refuse_full_disk(folder, size, f"a {what}", SMALLER)
    # the manifest, or the draft of it, may be there by now: another process makes the same cache
    own = (RECORDS, SUMS, LOCK, MANIFEST)
    foreign = [p.name for p in folder.glob("*") if p.name not in own and not p.name.startswith(f".{MANIFEST}.")]
    if foreign or folder.exists() and not folder.is_dir():
        raise ValueError(
            f"cache.folder={folder}: is no teacher cache, it holds {', '.join(foreign[:3]) or 'no folder'}; choose "
            "another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with Locks(folder / LOCK).all():
        if (folder / MANIFEST).is_file():
            return  # another process was first, and has said it
        say(f"note: {what}")
        for name, length in sizes.items():
            with (folder / name).open("wb") as file:  # empties what an interrupted attempt has left
                file.truncate(length)
        write_json(folder / MANIFEST, manifest.plain())


def _refuse_full_disk(folder: Path, needed: int, what: str, smaller: str) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ValueError(f"{what} still needs {needed / GB:.2f} GB, and {free / GB:.2f} GB are free; {smaller}")


def _refuse(folder: Path, manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """Raise ValueError that says why the cache in a folder is not the one that is wanted."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except ValueError as error:
        raise ValueError(f"cache {folder}: {MANIFEST} is no JSON ({error}); {ANEW}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"cache {folder}: {MANIFEST} is no manifest; {ANEW}")
    wrong = difference(manifest, found)
    if wrong:
        raise ValueError(f"cache {folder} is another one: {wrong}; {ANEW}")
    missing = 0
    for name, expected in sizes.items():
        path = folder / name
        actual = path.stat().st_size if path.is_file() else 0
        if actual != expected:
            raise ValueError(f"cache {folder}: {name} has {actual:,} bytes instead of {expected:,}; {ANEW}")
        missing += max(expected - path.stat().st_blocks * 512, 0)
    _refuse_full_disk(folder, missing, f"cache {folder}", "make room, or choose another disk with cache.folder")
