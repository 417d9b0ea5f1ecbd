"""Config-driven knowledge distillation on PyTorch Lightning and Hydra."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.config import compose
    from distill.load import load
    from distill.run import run

__all__ = ["compose", "load", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # lazy, so that `distill --help` does not import torch
    if name == "compose":
        from distill.config import compose

        return compose
    if name == "load":
        from distill.load import load

        return load
    if name == "run":
        from distill.run import run

        return run
    raise AttributeError(f"module 'distill' has no attribute {name!r}")
