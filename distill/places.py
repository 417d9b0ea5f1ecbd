"""Places: the configuration that comes with distill, and where it keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

_HERE = Path(__file__).resolve().parent
CONF = _HERE / "conf" if (_HERE / "conf").is_dir() else _HERE.parent / "conf"
"""Folder of the shipped configuration: inside the package when installed from a wheel, beside it in a checkout."""


def cache_folder() -> Path:
    """Return where caches are kept: ``$DISTILL_CACHE``, else ``distill`` in the user's cache folder."""
    own = os.environ.get("DISTILL_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distill"
