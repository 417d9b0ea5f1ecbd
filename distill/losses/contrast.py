"""Draws the samples that a sample is contrasted with: one positive, and negatives of other classes, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from distill.losses.memory import Unshared

MODES = ("exact", "relax")


class Contrast(Unshared):
    """Positives and negatives of training samples, decided by (seed, step, index), whatever batch or process asks.

    In each step the training samples are put in one random order; a sample starts at a random place of its own in it
    and takes what comes next and is not of its class. So its negatives are a uniform draw without replacement from all
    other classes, in time that does not depend on the number of classes; only between samples of one step are draws
    not independent. Where more are asked for than there are, each is taken equally often, but for one.

    Args:
        target: class of every training sample ``(M,)``.
        classes: number of classes.
        mode: ``"exact"``: the positive is the sample itself; ``"relax"``: a random one of its class.
        class_aware: False takes negatives from all other samples, also of the same class.
        seed: decides every draw.
    """

    target: Tensor
    members: Tensor
    sizes: Tensor

    def __init__(self, target: Tensor, classes: int, mode: str, class_aware: bool, seed: int) -> None:
        super().__init__()
        self.mode, self.class_aware, self.seed = mode, class_aware, seed
        sizes = torch.bincount(target, minlength=classes)
        order = target.argsort(stable=True)
        rank = torch.arange(len(target)) - (sizes.cumsum(0) - sizes)[target[order]]
        members = torch.full((classes, int(sizes.max())), -1)
        members[target[order], rank] = order
        self.keep("target", target)
        self.keep("members", members)  # samples by class, -1 where a class has no more
        self.keep("sizes", sizes)

    def draw(self, index: Tensor, step: int, count: int) -> Tensor:
        """Return the samples ``(N, 1 + count)`` to contrast with: a positive, then negatives.

        Args:
            index: samples ``(N,)``.
            step: number of the step.
            count: K, the number of negatives.
        """
        size, device = len(self.target), index.device
        random = torch.Generator(device)
        random.manual_seed((self.seed * 1_000_003 + step) % 2**63)
        order = torch.randperm(size, generator=random, device=device)
        start = torch.randint(size, (size,), generator=random, device=device)[index][:, None]
        which = torch.rand(size, generator=random, device=device, dtype=torch.float64)[index]
        group = self.target[index]
        positive = index
        if self.mode == "relax":
            positive = self.members[group, (which * self.sizes[group]).long()]
        own = self.members[group] if self.class_aware else index[:, None]
        place = torch.empty_like(order)
        place[order] = torch.arange(size, device=device)
        ahead = (place[own] - start) % size  # where the excluded samples come, counted from the start
        ahead = torch.where(own < 0, 2 * size, ahead).sort(1).values
        others = size - (own >= 0).sum(1, keepdim=True)
        number = torch.arange(count, device=device) % others
        # negative number k comes after as many excluded samples as have no more than k negatives before them
        before = torch.searchsorted(ahead - torch.arange(own.shape[1], device=device), number, right=True)
        negative = order[(number + before + start) % size]
        return torch.cat([positive[:, None], negative], 1)
