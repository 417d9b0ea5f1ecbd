"""Pointing accuracy: whether a network looks at what it is asked about, where data say by a box what that is.

The pointing game (Zhang et al., "Top-Down Neural Attention by Excitation Backprop", IJCV 2018) by cells instead of
pixels: the cell with the most attention hits when its centre is in the box, or the box's centre in the cell, for
between the centres of a coarse grid's cells there is room for whole objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from distill.outputs import Outputs
from distill.taps import first_tensor, published, resolve

POINTER = "pointer"
"""Tap of networks that look somewhere: how much at each cell ``(h, w)``, or ``(heads, h, w)``, whose mean counts."""


def pointers(network: nn.Module | None) -> tuple[str, ...]:
    """Return the tap that says where a network looks, in a tuple; an empty one where it publishes none."""
    return (POINTER,) if network is not None and POINTER in published(network) else ()


def pooled(attention: Tensor) -> Tensor:
    """Return how much is looked at each cell ``(N, h, w)``, the mean over heads of attention that has them.

    Args:
        attention: ``(N, h, w)`` or ``(N, heads, h, w)``.
    """
    return attention.float().mean(1) if attention.dim() == 4 else attention.float()


def peaks(attention: Tensor) -> Tensor:
    """Return left, top, right, bottom of the cell with the most attention, as shares of width and height ``(N, 4)``.

    Args:
        attention: ``(N, h, w)``, or ``(N, heads, h, w)``, of which the mean over heads counts.
    """
    maps = pooled(attention)
    height, width = maps.shape[-2:]
    cell = maps.flatten(1).argmax(1)
    row, column = cell // width, cell % width
    return torch.stack([column / width, row / height, (column + 1) / width, (row + 1) / height], 1)


def hits(cell: Tensor, box: Tensor) -> Tensor:
    """Return whether a cell hits a box, each ``(N, 4)`` as :func:`peaks` gives it; boolean ``(N,)``.

    A box of NaN is never hit.
    """

    def centre_within(one: Tensor, other: Tensor) -> Tensor:
        centre = (one[:, :2] + one[:, 2:]) / 2
        return ((other[:, :2] <= centre) & (centre <= other[:, 2:])).all(1)

    return centre_within(cell, box) | centre_within(box, cell)


def counts(outputs: Outputs, box: Tensor | None, like: Tensor) -> Tensor:
    """Return hits and samples with a box ``(2,)``; zeros where the network looks nowhere, or nothing says where to.

    Args:
        outputs: with the pointer among the features, if the network has one.
        box: of each sample ``(N, 4)``, NaN for none; or None.
        like: of the type and on the device that the result is to have.
    """
    if box is None or POINTER not in outputs.features:
        return like.new_zeros(2)
    hit = hits(peaks(outputs.features[POINTER]), box)
    return torch.stack([hit.sum(), (~box.isnan().any(1)).sum()]).to(like)


class Looks:
    """Where a network looked at, sample by sample of a split in its order; nothing for one that looks nowhere."""

    def __init__(self) -> None:
        self.cells: list[Tensor] = []

    def see(self, attention: Tensor) -> None:
        """Keep where a batch was looked at ``(N, h, w)`` or ``(N, heads, h, w)``."""
        self.cells.append(peaks(attention).cpu())

    def keep(self, outputs: Outputs) -> None:
        """Keep where a batch was looked at, if the outputs say it."""
        if POINTER in outputs.features:
            self.see(outputs.features[POINTER])

    @contextmanager
    def watching(self, network: nn.Module | None) -> Iterator[None]:
        """Keep where a network looks in every pass through it meanwhile, whatever taps it is read by."""
        if network is None or not pointers(network):
            yield
            return
        module, wants_input = resolve(network, POINTER)

        def keep(_: nn.Module, args: tuple, output: object = None) -> None:
            found = first_tensor(args if wants_input else output)
            if found is not None:
                self.see(found)

        handle = module.register_forward_pre_hook(keep) if wants_input else module.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def report(self, box: Tensor | None, kind: Tensor | None = None, kinds: Sequence[str] = ()) -> dict[str, Any]:
        """Return ``{"pointing": {accuracy in percent, samples with a box, by_kind}}``, or nothing where there is none.

        Args:
            box: of each sample of the split ``(M, 4)``, NaN for none; or None.
            kind: which of the kinds each sample is ``(M,)``; or None.
            kinds: their names.
        """
        if box is None or sum(map(len, self.cells)) != len(box):
            return {}  # nobody says where to look, or where was looked
        boxed = ~box.cpu().isnan().any(1)
        if not boxed.any():
            return {}
        hit = 100 * hits(torch.cat(self.cells), box.cpu()).double()
        told: dict[str, Any] = {"accuracy": hit[boxed].mean().item(), "samples": int(boxed.sum())}
        if kind is not None and kinds:
            parts = {name: boxed & (kind.cpu() == i) for i, name in enumerate(kinds)}
            told["by_kind"] = {name: hit[part].mean().item() for name, part in parts.items() if part.any()}
        return {"pointing": told}
