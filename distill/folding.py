"""Folds batch normalisation into the convolutions before it, in a network that only answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from distill.taps import INPUT

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # what has no parts has no normalisation to fold, and may decide by the shape of its input
        return super().is_leaf_module(m, module_qualified_name) or not any(True for _ in m.children())


def fold(network: nn.Module, keep: Collection[str] = ()) -> list[str]:
    """Fold every batch normalisation whose input is a convolution that nothing else reads; in place, exact up to float.

    Args:
        network: in eval mode; left as it is where Python cannot trace it.
        keep: taps that somebody reads, module paths or ``path:in``; what they give stays what it was.

    Returns:
        Paths of the normalisations that are gone.
    """
    try:
        graph = _Tracer().trace(network)
    except Exception:  # data-dependent control flow and the like: the network is right without
        return []
    modules = dict(network.named_modules())
    called = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    gone = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        path, above = str(node.target), str(before.target)
        norm, convolution = modules[path], modules[above]
        if type(norm) not in NORMS or type(convolution) not in CONVOLUTIONS:
            continue
        if any(_between(above, path, tap) for tap in keep):
            continue
        if called[path] > 1 or called[above] > 1 or norm.running_mean is None:
            continue
        _fuse(convolution, norm)
        owner, _, name = path.rpartition(".")
        setattr(network.get_submodule(owner), name, nn.Identity())
        gone.append(path)
    return gone


def _between(convolution: str, norm: str, tap: str) -> bool:
    """Whether a tap reads what passes from one module to the next: as output of the first, or as input of the second.

    It does too where it names a module that holds the one and not the other.
    """
    path = tap.removesuffix(INPUT)
    first, second = ((p + ".").startswith(path + ".") for p in (convolution, norm))
    return second and not first if tap.endswith(INPUT) else first and not second


@torch.no_grad()
def _fuse(convolution: nn.Module, norm: nn.Module) -> None:
    assert isinstance(convolution, CONVOLUTIONS)
    assert isinstance(norm, NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    convolution.requires_grad_(False)
