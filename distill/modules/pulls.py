"""Pulls: how strongly each term of the objective pulls at the student, for equal weights are not equal pulls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn


class Pulls:
    """Norms of the gradient that each weighted term has for the student, of the first batch of an epoch.

    What is measured changes nothing that is trained: no gradient is kept, none is sent to another process. Of a
    compiled student the results of a training were seen to differ by rounding with and without it.

    Args:
        names: terms in order.

    Attributes:
        sums: norm of each term, then the number of batches measured ``(terms + 1,)``, float64; in every checkpoint.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.sums = torch.zeros(len(self.names) + 1, dtype=torch.float64)

    def measure(self, parts: Mapping[str, Tensor], network: nn.Module, scaler: Any) -> None:
        """Add the norms of one batch; a term that was not computed, or does not reach the network, has none.

        Args:
            parts: weighted terms with their graph, which is kept.
            network: whose parameters count.
            scaler: what scales losses in half precision, where small gradients would be lost; None for nothing.
        """
        weights = [p for p in network.parameters() if p.requires_grad]
        scale = torch.ones((), device=self.sums.device)
        scale = scale if scaler is None else scaler.scale(scale)
        for number, name in enumerate(self.names):
            if name in parts and parts[name].requires_grad:
                found = torch.autograd.grad(parts[name] * scale, weights, retain_graph=True, allow_unused=True)
                self.sums[number] += torch.nn.utils.get_total_norm([g for g in found if g is not None]) / scale
        self.sums[-1] += 1

    def take(self, strategy: Strategy) -> dict[str, float]:
        """Return ``grad_norm/TERM``, the mean over processes, for every norm that is finite; start anew."""
        sums = strategy.reduce(self.sums.clone(), reduce_op="sum")
        assert isinstance(sums, Tensor)
        *norms, batches = sums.tolist()
        self.sums.zero_()
        named = zip(self.names, norms, strict=True)
        return {f"grad_norm/{name}": norm / batches for name, norm in named if batches and math.isfinite(norm)}
