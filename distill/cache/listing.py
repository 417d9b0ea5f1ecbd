"""Lists the caches in a folder from their manifests and marks; needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.cache import KIND, MANIFEST, SUMS
from distill.records import read_json


@dataclass(frozen=True)
class Listed:
    """One cache: its folder, bytes on disk and in full, records that are there and in full, and a summary."""

    folder: Path
    disk: int
    size: int
    filled: int
    slots: int
    summary: str


def caches(folder: Path) -> Iterator[Listed]:
    """Give every cache in a folder, sorted by name."""
    for path in sorted(folder.glob(f"*/{MANIFEST}")):
        manifest = read_json(path)
        if manifest is None or manifest.get("kind") != KIND:
            continue
        files = [file.stat() for file in path.parent.iterdir() if file.is_file()]
        marks = path.parent / SUMS
        filled = int(np.count_nonzero(np.fromfile(marks, np.uint32))) if marks.is_file() else 0
        teacher = manifest["teacher"]
        kept = ", ".join(f"{name} {dtype} {size}" for name, (dtype, size) in manifest["fields"].items())
        yield Listed(
            folder=path.parent,
            disk=sum(file.st_blocks * 512 for file in files),
            size=sum(file.st_size for file in files),
            filled=filled,
            slots=manifest["samples"] * manifest["views"],
            summary=f"{teacher.get('network', 'no network')}, {manifest['samples']:,} samples x {manifest['views']} "
            f"views of {manifest['transform']}; {kept}",
        )
