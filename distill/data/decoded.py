"""Decoded: images decoded once into a memory-mapped array in the user's cache folder, so that later starts are fast."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from distill.data.images import Source, decode
from distill.folders import cache_folder

_CHUNK = 256  # images a thread decodes before it asks for more
_FORM = 1  # goes up when the bytes of a cache would differ for the same files


def decoded(files: Sequence[Path], source: Callable[[], Source], count: int, shape: tuple[int, int, int]) -> Tensor:
    """Return all images of a source as uint8 ``(count, C, H, W)``, memory-mapped from the cache where there is one.

    Args:
        files: what the images are in; the cache is made again when a name, size or time of change differs.
        source: makes what opens an image; not called where the cache has them all.
        count: number of images.
        shape: of each.

    Raises:
        ValueError: names the first image that cannot be decoded.
    """
    if not count:
        return torch.empty((0, *shape), dtype=torch.uint8)  # a file of no bytes cannot be mapped
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    key = hashlib.sha256(repr((_FORM, stats, count, shape)).encode()).hexdigest()[:16]
    path = cache_folder() / f"{files[0].stem}-{key}.npy"
    known = _load(path, (count, *shape))
    if known is not None:
        return known
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError:
        print(f"note: {path.parent} cannot be written, so images are decoded at every start", file=sys.stderr)
        array = np.empty((count, *shape), np.uint8)
        _fill(array, source())
        return torch.from_numpy(array)
    part = Path(name)
    try:
        print(f"note: decoding {count:,} images once, into {path}", file=sys.stderr)
        mapped = np.lib.format.open_memmap(part, "w+", np.uint8, (count, *shape))
        _fill(mapped, source())
        mapped.flush()
        part.chmod(0o644)  # temporary files are the owner's only
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    made = _load(path, (count, *shape))
    if made is None:
        raise ValueError(f"{path}: not what was just written; is the disk full? Set DISTILL_CACHE to another folder")
    return made


def _load(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    try:
        array = np.load(path, mmap_mode="c")  # copy on write: PyTorch warns of arrays that cannot be written
    except (OSError, ValueError):
        return None
    return torch.from_numpy(array) if array.shape == shape and array.dtype == np.uint8 else None


def _fill(array: np.ndarray, source: Source) -> None:
    count, channels, height, width = array.shape

    def put(first: int) -> None:
        for row in range(first, min(first + _CHUNK, count)):
            array[row] = decode(source, row, channels, (height, width)).numpy()

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # PIL decodes outside Python's lock
        for _ in pool.map(put, range(0, count, _CHUNK)):
            pass
