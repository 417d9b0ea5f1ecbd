"""Places: where distill keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return where caches are kept: ``$DISTILL_CACHE``, else ``distill`` in the user's cache folder."""
    own = os.environ.get("DISTILL_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "distill"
