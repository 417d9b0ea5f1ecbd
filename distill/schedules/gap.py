"""Gap: a temperature that falls as the student catches up with the teacher.

``T = low + (high - low) clip(gap / gap_0, 0, 1)``, where the gap of a batch is ``CE_S - CE_T`` with the labels, or the
part of the batch on which student and teacher disagree, and gap_0 its mean over the first batches. So T starts high
and ends low, at the pace of the training itself. In the spirit of the loss-gap scheduler (arXiv:2511.13767), whose
formula is not known to us; this one is ours.

Known to go wrong: a student that starts as good as its teacher has no gap to compare with, and T is ``low``. Under
mixup and cutmix the cross-entropy is that of the one label. T is one number a batch, which is as noisy as its batch.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from distill.schedules.adaptive import Adaptive, Heat, require_bounds

TINY = 1e-6  # least gap_0, in nats or as a part of a batch


class Gap(Adaptive):
    """One temperature a batch, from the gap between student and teacher; the same one in all processes.

    Args:
        by: ``"loss"``, the difference of cross-entropies, or ``"agreement"``, the part on which the two disagree.
        low: T without a gap; above 0.
        high: T at the gap of the first batches, and beyond.
        batches: how many batches gap_0 is the mean of.

    Attributes:
        first: sum and number of the gaps of the first batches ``(2,)``, float64.

    Raises:
        ValueError: when the bounds are out of order or not above 0, or there is no first batch.
    """

    def __init__(
        self, by: Literal["loss", "agreement"] = "loss", low: float = 1.0, high: float = 5.0, batches: int = 10
    ) -> None:
        super().__init__()
        require_bounds(low, high)
        if batches < 1:
            raise ValueError(f"batches must be at least 1, got {batches}")
        self.by, self.low, self.high, self.batches = by, float(low), float(high), batches
        self.first = torch.zeros(2, dtype=torch.float64)  # no buffer, for the reasons of the tally

    def _gap(self, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
        if self.by == "agreement":
            gaps = (student.argmax(1) != teacher.argmax(1)).double()
        else:
            losses = [F.cross_entropy(z.float(), target, reduction="none").double() for z in (student, teacher)]
            gaps = losses[0] - losses[1]
        both = torch.stack([gaps.sum(), torch.full_like(gaps[0], len(gaps))])
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(both)
        return both[0] / both[1]

    @torch.no_grad()
    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T of shape ()."""
        gap = self._gap(student, teacher, target)
        if self.first.device != gap.device:
            self.first = self.first.to(gap.device)
        if self.training:
            self.first += torch.where(self.first[1] < self.batches, torch.stack([gap, torch.ones_like(gap)]), 0.0)
        reference = (self.first[0] / self.first[1].clamp(min=1)).clamp(min=TINY)
        return (self.low + (self.high - self.low) * (gap / reference).clamp(0, 1)).float()

    def get_extra_state(self) -> Tensor:
        return torch.cat([super().get_extra_state(), self.first.cpu()])

    def set_extra_state(self, state: Tensor) -> None:
        super().set_extra_state(state[:2])
        self.first = state[2:].to(self.first.device).clone()
