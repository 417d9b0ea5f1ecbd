"""Config-driven knowledge distillation on PyTorch Lightning and Hydra."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.comparison import run
    from distill.config import compose
    from distill.trained import load

__all__ = ["compose", "load", "run"]
__version__ = "0.1.0"

_HOME = {"compose": "distill.config", "load": "distill.trained", "run": "distill.comparison"}


def __getattr__(name: str) -> Any:
    # lazy, so that `distill --help` does not import torch; no module has one of these names, which it would then hide
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'distill' has no attribute {name!r}")
