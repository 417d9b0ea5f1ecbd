"""The most memory that the tensors of a computation hold at once, where there is no allocator to ask."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Counting(TorchDispatchMode):
    """Counts the bytes of every storage that an operator makes, until nobody holds it, a graph included."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.peak = 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        before = {x.untyped_storage()._cdata for x in given}
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in before:
                self._add(x.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        self.known.add(storage)
        size = storage.nbytes()
        self.held += size
        self.peak = max(self.peak, self.held)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.held -= size


def peak_of_tensors(step: Callable[[], None]) -> int:
    """Return the most bytes of tensors that a step makes and holds at once; what a kernel needs inside is not seen."""
    counting = _Counting()
    with counting:
        step()
    return counting.peak
