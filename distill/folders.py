"""Where distill keeps what it made from the user's data, so that later runs start faster."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of decoded images and teacher caches: ``$DISTILL_CACHE``, else in the user's cache folder."""
    own = os.environ.get("DISTILL_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distill"
