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

from distill.data.images import ArrayImages, FileImages, Images, Source, decode
from distill.places import cache_folder

_CHUNK = 256  # images a thread decodes before it asks for more
_MANY = 10_000  # images whose decoding takes long enough to say so
_FORM = 1  # goes up when the bytes of a cache would differ for the same files


def resident(split: Images, limit: float) -> Images:
    """Return a split of encoded images as an array that is decoded once, if all images of its source fit.

    Args:
        split: any; what is an array already is returned as it is.
        limit: bytes that the decoded images of the source may take.

    Raises:
        ValueError: names the first image that cannot be decoded.
    """
    if not isinstance(split, FileImages):
        return split
    source, (c, h, w) = split.source, split.shape
    if len(source) * c * h * w > limit:
        return split
    # the whole source, so that its parts (train and test of one folder, say) share what is kept
    images = decoded(source.files, lambda: source, len(source), (c, h, w), source.column)
    return ArrayImages(images, split.target, split.classes, split.rows, split.notes, split.numbers, split.samples)


def decoded(
    files: Sequence[str | Path], source: Callable[[], Source], count: int, shape: tuple[int, int, int], column: str
) -> Tensor:
    """Return all images of a source as uint8 ``(count, C, H, W)``, memory-mapped from the cache where there is one.

    Args:
        files: what the images are in; the cache is made again when a name, size or time of change differs. Of images in
            no file nothing is kept.
        source: makes what opens an image; not called where the cache has them all.
        count: number of images.
        shape: of each.
        column: which images in the files, where they have several kinds.

    Raises:
        ValueError: names the first image that cannot be decoded.
    """
    if not count:
        return torch.empty((0, *shape), dtype=torch.uint8)  # a file of no bytes cannot be mapped
    path = _place(files, (_FORM, count, shape, column)) if files else None
    known = _load(path, (count, *shape)) if path else None
    if known is not None:
        return known
    if path is None:
        return _in_memory(source(), (count, *shape))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError:
        print(f"note: {path.parent} cannot be written, so images are decoded at every start", file=sys.stderr)
        return _in_memory(source(), (count, *shape))
    part = Path(name)
    try:
        if count >= _MANY:
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


def _place(files: Sequence[str | Path], more: object) -> Path:
    """Return where the images in files are kept, decoded; asks the file system once a file."""
    whole = [os.path.abspath(file) for file in files]  # noqa: PTH100 - quick for a hundred thousand files
    parent = os.path.commonpath([os.path.dirname(file) for file in whole])  # noqa: PTH120
    key = hashlib.sha256(repr(more).encode())
    for file in whole:
        stat = os.stat(file)  # noqa: PTH116
        key.update(f"{file[len(parent) :]}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return cache_folder() / f"{Path(parent).name[:40]}-{key.hexdigest()[:16]}.npy"


def _in_memory(source: Source, shape: tuple[int, int, int, int]) -> Tensor:
    array = np.empty(shape, np.uint8)
    _fill(array, source)
    return torch.from_numpy(array)


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
