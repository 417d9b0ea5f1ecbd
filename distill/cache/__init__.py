"""Teacher cache: what a teacher says of every view of every sample, on disk, so that it is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill.places import cache_folder

KIND = "distill teacher cache"
RECORDS, SUMS, MANIFEST, LOCK = "records.bin", "sums.bin", "manifest.json", "lock"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is kept of a teacher's answers, and where; the config group ``cache``.

    Args:
        views: ``"all"`` views of a finite augmentation, or so many, which the epochs go through in turn.
        dtype: of what is kept: ``"float16"`` or ``"float32"``.
        top_k: keep only so many of the largest logits and the mass of the others, which loses the order of the others;
            None keeps all.
        fill: ``"lazy"`` computes an answer when it is first needed; ``"ahead"`` computes all before training.
        folder: where each teacher has a folder of its name; None for distill's cache folder, where there is one for
            every other teacher, data or transform.
        limit_gb: a cache that would be larger is refused.

    Raises:
        ValueError: names the key that is out of range.
    """

    views: int | Literal["all"]
    dtype: Literal["float16", "float32"]
    top_k: int | None
    fill: Literal["lazy", "ahead"]
    folder: str | None
    limit_gb: float

    def __post_init__(self) -> None:
        if self.views != "all" and (isinstance(self.views, str) or self.views < 1):
            raise ValueError(f"cache.views={self.views}: must be all, or a number of views of at least 1")
        for name, allowed in (("dtype", ("float16", "float32")), ("fill", ("lazy", "ahead"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"cache.{name}={getattr(self, name)}: must be one of {', '.join(allowed)}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"cache.top_k={self.top_k}: must be at least 1; null keeps all logits")
        if not self.limit_gb > 0:
            raise ValueError(f"cache.limit_gb={self.limit_gb:g}: must be above 0, in GB")


def default_folder() -> Path:
    """Return the folder of all caches that were not given another."""
    return cache_folder() / "teachers"
