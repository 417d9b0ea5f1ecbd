"""Locks: which process computes which records; the system releases them however a process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_GATE = 0  # byte of the lock file; those of the blocks follow

_descriptors: dict[tuple[int, int], int] = {}
"""The one descriptor of each lock file in this process, by device and inode.

POSIX drops a process's locks on a file when any of its descriptors of that file is closed, so there is one, and it is
never closed. A forked worker inherits it and no lock, and closing it there does no harm here.
"""


def _descriptor(path: Path) -> int:
    if path.exists():
        status = path.stat()
        known = _descriptors.get((status.st_dev, status.st_ino))
        if known is not None:
            return known
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    status = os.fstat(descriptor)
    return _descriptors.setdefault((status.st_dev, status.st_ino), descriptor)


class Locks:
    """Byte-range locks of one file: one byte for each block, and a gate before them.

    Whoever takes all blocks waits behind the gate, so that processes which go from block to block let it pass. Locks
    are held by processes, not threads.

    Args:
        path: the lock file, made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = _descriptor(path)

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Hold every block; wait until nobody else holds one."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, _GATE)
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 0, _GATE + 1)  # a length of 0 is to the end
            yield
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 0, _GATE)

    @contextlib.contextmanager
    def one(self, block: int, wait: bool) -> Iterator[bool]:
        """Try to hold a block, or wait for it; give whether it is held."""
        byte = _GATE + 1 + block
        if wait:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, byte)
            held = True
        else:
            held = self._try(byte)
        try:
            yield held
        finally:
            if held:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, byte)

    def _try(self, byte: int) -> bool:
        fcntl.lockf(self.descriptor, fcntl.LOCK_SH, 1, _GATE)
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):  # POSIX leaves open which of the two
            return False
        finally:
            fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _GATE)
        return True
