"""Tap names that networks of other libraries share: stage1, stage2 ... whatever their modules are called."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 6
"""A network with more blocks of equal standing than this publishes the ends of its four quarters."""


def stages(paths: Sequence[str]) -> dict[str, str]:
    """Return ``{"stage1": path, ...}`` for module paths in the order of computation."""
    if len(paths) > MOST:
        paths = [paths[round(len(paths) * quarter / 4) - 1] for quarter in range(1, 5)]
    return {f"stage{i}": path for i, path in enumerate(paths, 1)}
