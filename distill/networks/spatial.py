"""Spatial: any image classifier together with its last feature that still has places, as a map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill.connectors.forms import as_map, grid_of, map_shape
from distill.taps import INPUT, first_tensor, published, resolve, spec_of

AUTO = "auto"
FINAL = "final"  # the name that networks of this project publish their last map by


class _Kept:
    """A forward hook that holds what a module gave, or got, until it is taken.

    An object and not a closure: a copy of the network then writes to the copy of this, and torch.export takes no note.
    """

    def __init__(self, wants_input: bool) -> None:
        self.wants_input = wants_input
        self.value: Any = None

    def __call__(self, _: nn.Module, args: tuple, output: Any = None) -> None:
        self.value = args if self.wants_input else output

    def take(self) -> Tensor:
        """Return the tensor and let go of it."""
        found, self.value = first_tensor(self.value), None
        assert found is not None
        return found


class Spatial(nn.Module):
    """Logits of a classifier and the map that they are made from.

    Args:
        network: maps images ``(N, C, H, W)`` to logits ``(N, K)``.
        tap: feature to give as a map, a published name or a module path; tokens lose those that stand before their
            grid. ``"auto"``: the one published as ``final``, else what a network of timm gives before its head, else
            the last map or tokens that a forward pass makes.
        shape: channels, height and width of an image, to find it by.

    Attributes:
        shape: channels, height and width of the map for such an image.

    Raises:
        ValueError: when there is no such feature, or it has no places.
    """

    shape: tuple[int, int, int]

    def __init__(self, network: nn.Module, tap: str, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self._kept: _Kept | None = None
        split = hasattr(network, "forward_features") and hasattr(network, "forward_head")
        if tap != AUTO or FINAL in published(network):
            self.tap = FINAL if tap == AUTO else tap
            self._keep(*resolve(network, self.tap))
        elif split:
            self.tap = "forward_features"
        else:
            self.tap = _last(network, shape)
            self._keep(*resolve(network, self.tap))
        _, feature = _tried(self._both, network, shape)
        self.spec = spec_of(network, tuple(feature.shape[1:]))
        found = map_shape(self.spec)
        if found is None or len(self.spec.shape) == 1:
            raise ValueError(
                f"tap {self.tap!r} of {type(network).__name__} has shape {self.spec.shape} and no spatial extent; "
                "name a map (C, H, W) or the tokens of a grid (L, C)"
            )
        self.shape = found

    def _keep(self, module: nn.Module, wants_input: bool) -> None:
        self._kept = _Kept(wants_input)
        if wants_input:
            module.register_forward_pre_hook(self._kept)
        else:
            module.register_forward_hook(self._kept)

    def _both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and the feature, maps with their channels first."""
        network: Any = self.network
        if self._kept is not None:
            return network(x), self._kept.take()
        feature = network.forward_features(x)
        logits = network.forward_head(feature)
        last = feature.dim() == 4 and getattr(network, "output_fmt", "NCHW") == "NHWC"
        return logits, feature.movedim(-1, 1) if last else feature

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(N, K)`` and the map ``(N, C, h, w)`` of images ``(N, C, H, W)``."""
        logits, feature = self._both(x)
        return logits, as_map(feature, self.spec)


@torch.no_grad()
def _tried(look: Any, network: nn.Module, shape: tuple[int, int, int]) -> Any:
    """Return what comes of one black image; statistics of the network stay as they are."""
    training = network.training
    network.eval()
    try:
        return look(torch.zeros(1, *shape))
    finally:
        network.train(training)


def _last(network: nn.Module, shape: tuple[int, int, int]) -> str:
    """Return the path of the module that is the last to give a map, or tokens of a grid, of more than one place.

    Raises:
        ValueError: when none does.
    """
    found: list[str] = []
    handles = []
    for path, module in network.named_modules():

        def look(_: nn.Module, __: tuple, output: Any, path: str = path) -> None:
            value = first_tensor(output)
            if value is not None and value.dim() in (3, 4) and path:
                grid = grid_of(spec_of(network, tuple(value.shape[1:])))
                if grid is not None and grid != (1, 1):
                    found.append(path)

        handles.append(module.register_forward_hook(look))
    try:
        _tried(network, network, shape)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(
            f"{type(network).__name__} makes no map of images of {'x'.join(map(str, shape))}; name one with student.tap"
        )
    return found[-1]


def without_classifier(network: nn.Module, num_classes: int) -> None:
    """Take the linear classifier out of a network, which then gives what the classifier read; in place.

    Raises:
        ValueError: when there is none of so many classes.
    """
    linear = [p for p, m in network.named_modules() if isinstance(m, nn.Linear) and m.out_features == num_classes]
    own = published(network).get("pooled", "").removesuffix(INPUT)
    own_heads: Any = getattr(network, "get_classifier", tuple)()  # of timm; a distilled DeiT has two
    heads = own_heads if isinstance(own_heads, tuple | list) else [own_heads]
    paths = [p for p, m in network.named_modules() if any(m is head for head in heads) and p in linear]
    paths = paths or [p for p in linear if p == own] or linear[-1:]
    if not paths:
        raise ValueError(
            f"{type(network).__name__} has no linear classifier of {num_classes} classes to put text vectors in the "
            "place of; choose another network, or set student.anchored=false"
        )
    for path in paths:
        network.set_submodule(path, nn.Identity())
