"""Heap: keeps the memory of one step for the next, on a CPU under Linux.

A step of a convolutional network allocates and frees some hundreds of tensors of megabytes. As it comes, the C library
gives each back to the system, which clears its pages when it hands them out again, 4 KiB at a time.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import cache
from pathlib import Path

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3), by their numbers in malloc.h."""
LARGEST = 32 << 20
"""Bytes above which a tensor gets pages of its own all the same; the most that glibc takes."""
RESERVED = 1 << 30
"""Bytes of address space that are asked for at once, so that it can be said of all of them that they be large pages."""
USUAL_PAD = 128 << 10
"""What glibc asks for beyond what it needs."""
SMALL, HUGE = 4 << 10, 2 << 20
"""Bytes of the pages of most systems."""


@cache
def keep_freed() -> bool:
    """Have freed memory stay with this process, in pages of 2 MiB where the system has them; nothing computed changes.

    Returns:
        Whether the C library could be told; once told, it stays so until the process ends.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    try:
        tell, malloc, free = library.mallopt, library.malloc, library.free
    except AttributeError:  # another C library than glibc
        return False
    malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    if not (tell(MMAP_THRESHOLD, LARGEST) and tell(TRIM_THRESHOLD, (1 << 31) - 1)):
        return False
    if mmap.PAGESIZE == SMALL:  # where pages are larger, the next size is 32 or 512 MiB
        tell(TOP_PAD, RESERVED)
        free(malloc(LARGEST - HUGE))  # too much for what is there, so that the heap grows
        tell(TOP_PAD, USUAL_PAD)
        _prefer_large_pages(library)
    return True


def _prefer_large_pages(library: ctypes.CDLL) -> None:
    """Say of the heap that it be of large pages; what it grows by later is not."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[heap]"):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            start = -(-start // HUGE) * HUGE
            if start < end:
                library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_HUGEPAGE)
