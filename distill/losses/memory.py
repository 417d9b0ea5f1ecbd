"""Memories that outlive a batch: banks of one embedding a training sample, and queues of the latest ones.

They are part of the state of a loss, so a resumed run goes on with what they held, but they are not buffers: DDP
would broadcast those from rank 0 before every forward pass, and weight averaging would average and swap them. Each
process keeps its own copy and writes the embeddings of all processes to it, so that the copies stay alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def require_room(what: str, rows: int, dim: int, limit_gb: float) -> None:
    """Refuse a memory of float32 that is larger than its limit, before it is made.

    Args:
        what: what it holds, for the message.
        rows: number of embeddings.
        dim: length of one.
        limit_gb: largest size in GB.

    Raises:
        ValueError: says how large it would be.
    """
    size = rows * dim * 4 / 1e9
    if size > limit_gb:
        raise ValueError(
            f"{what} of {rows:,} x {dim:,} float32 take {size:.3g} GB on each device and in every checkpoint, and "
            f"limit_gb={limit_gb:g}; make them smaller, or raise limit_gb"
        )


class Unshared(nn.Module):
    """Tensors that follow their module to a device and are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[str] = []

    def keep(self, name: str, tensor: Tensor) -> None:
        """Add a tensor as an attribute."""
        self._kept.append(name)
        setattr(self, name, tensor)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Unshared:
        super()._apply(fn, recurse)
        for name in self._kept:
            tensor = getattr(self, name)
            setattr(self, name, fn(tensor).to(tensor.dtype))  # a memory in half precision would lose small updates
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Unshared:
        # weight averaging copies the module that holds this, and asks the copy for nothing but its weights
        return self


class Memory(Unshared):
    """Embeddings ``(M, D)`` in float32 by row.

    What is put is written when the memory is next read or saved: until then the backward pass needs what was there.

    Args:
        bank: the first content.

    Attributes:
        bank: the content without what waits to be written.
    """

    bank: Tensor

    def __init__(self, bank: Tensor) -> None:
        super().__init__()
        self.keep("bank", bank)
        self._waiting: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def read(self) -> Tensor:
        """Return the content ``(M, D)``, without gradient."""
        if self._waiting is not None:
            rows, values = self._waiting
            self._waiting = None
            self.bank[rows] = values
        return self.bank

    def put(self, rows: Tensor, values: Tensor) -> None:
        """Replace rows ``(N,)``, no two the same, by values ``(N, D)``."""
        self._waiting = rows, values.detach().float()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the content for a checkpoint."""
        return {"bank": self.read()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the content of a checkpoint.

        Raises:
            ValueError: when it has another shape.
        """
        found = state["bank"]
        if found.shape != self.bank.shape:
            raise ValueError(
                f"the checkpoint holds a memory of {tuple(found.shape)} and this run has {tuple(self.bank.shape)}; "
                "resume with the dataset and the sizes that it was saved with"
            )
        self._waiting = None
        self.bank.copy_(found)


class Queue(Memory):
    """The latest embeddings ``(M, D)``, the oldest replaced first; full from the start, as its first content is random.

    Args:
        bank: the first content.
    """

    def __init__(self, bank: Tensor) -> None:
        super().__init__(bank)
        self._next = 0

    def push(self, values: Tensor) -> None:
        """Put embeddings ``(N, D)`` in the place of the oldest; of more than there is room for, the last."""
        size = len(self.bank)
        values = values[-size:]
        self.put((torch.arange(len(values), device=values.device) + self._next) % size, values)
        self._next = (self._next + len(values)) % size

    def get_extra_state(self) -> dict[str, Any]:
        return super().get_extra_state() | {"next": self._next}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self._next = int(state["next"])
