"""What a CUDA graph does, on a CPU: the operations of a function are recorded, and done again to the same memory.

Python runs once, as under a capture; what a capture refuses is refused, such as reading a number from a tensor.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_iter, tree_map_only

HOST = {
    "aten::_local_scalar_dense": "reads a number from a tensor",
    "aten::lift_fresh": "makes a tensor of numbers of the host",
    "aten::nonzero": "gives a tensor whose size depends on values",
    "aten::masked_select": "gives a tensor whose size depends on values",
    "aten::_unique2": "gives a tensor whose size depends on values",
    "aten::unique_consecutive": "gives a tensor whose size depends on values",
    "aten::bincount": "gives a tensor whose size depends on values",
    "aten::repeat_interleave": "gives a tensor whose size depends on values",
}
"""Operations that make a GPU wait for the host, or the host for a GPU."""

RESHAPED = ("aten::squeeze_", "aten::unsqueeze_", "aten::transpose_", "aten::t_", "aten::swapaxes_")
"""Operations that change what a tensor looks like and no memory."""


class Recording(TorchDispatchMode):
    """Records operations; what they change of older tensors is put back by :meth:`undo`."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict[str, Any], Any]] = []
        self._own: set[int] = set()
        self._before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        name, kwargs = func._schema.name, kwargs or {}
        if name in HOST:
            raise RuntimeError(f"{name} {HOST[name]}")
        if name in ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1] or ()
        ):
            raise RuntimeError(f"{name} by a mask gives a tensor whose size depends on values")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        if name == "aten::native_batch_norm":  # it changes its running statistics, and its schema does not say so
            self._keep(args[3:5])
        for argument in func._schema.arguments:
            if argument.name in kwargs and argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(kwargs[argument.name])
        out = func(*args, **kwargs)
        given = {id(t) for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        theirs = {storage(t) for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        for tensor in tree_iter(out):
            if isinstance(tensor, Tensor) and id(tensor) not in given and storage(tensor) not in theirs:
                self._own.add(storage(tensor))
        if name not in RESHAPED:
            self.calls.append((func, *tree_map_only(Tensor, torch.ops.aten.alias.default, (args, kwargs, out))))
        return out

    def _keep(self, value: Any) -> None:
        for tensor in tree_iter(value):
            if isinstance(tensor, Tensor) and storage(tensor) not in self._own | self._before.keys():
                whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
                self._before[storage(tensor)] = whole, whole.clone()

    def undo(self) -> None:
        """Give every older tensor the values that it had."""
        for tensor, value in self._before.values():
            tensor.copy_(value)

    @torch.inference_mode()  # a teacher's answers are inference tensors
    def replay(self) -> None:
        """Do every operation again."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for place, value in zip(tree_flatten(out)[0], tree_flatten(again)[0], strict=True):
                if isinstance(place, Tensor) and storage(place) != storage(value):
                    place.copy_(value)


def storage(tensor: Tensor) -> int:
    """Return where the memory of a tensor begins."""
    return tensor.untyped_storage().data_ptr()


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Record a function as a GPU would; see :data:`distill.modules.graphs.Recorder`."""
    random, recording = torch.get_rng_state(), Recording()
    with recording:
        work()
    with torch.no_grad():
        recording.undo()
    torch.set_rng_state(random)
    return recording.replay
