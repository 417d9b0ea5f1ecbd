"""CTKD by instance: a temperature of each sample, from a small network that learns against the student.

Li et al., AAAI 2023 (arXiv:2211.16231), section 3.2, "Instance-T"; reversal and range as in
:mod:`distill.schedules.ctkd`. Their code has the global version only: the two layers, what they read (both logits,
detached, so that only T is adversarial) and the start, which is the global one's, are ours.

Known to go wrong: as in the global version, and what the network sees grows with the logits, hence saturates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Progress, require_finite
from distill.schedules.ctkd import Reversal, require_range, reverse


class InstanceCTKD(Adaptive):
    """A learned temperature of each sample; the network trains in the student's optimizer, weight decay included.

    Args:
        t_start: lowest temperature, tau_init in the paper; above 0.
        t_end: length of the range above it, tau_range.
        theta: what the network gives every sample at the start; 1 gives ``t_start + 0.73 t_end``.
        hidden: width of the layer between logits and temperature.
        decay_max: factor of the gradient before training.
        decay_min: factor from epoch ``decay_loops`` on; below 0, for the gradient is reversed.
        decay_loops: epochs from the one to the other, counted from 1.

    Attributes:
        strength: factor of the gradient in this epoch.

    Raises:
        ValueError: when a temperature could be 0 or less, the gradient would not be reversed, or the layer is empty.
    """

    def __init__(
        self,
        t_start: float = 1.0,
        t_end: float = 20.0,
        theta: float = 1.0,
        hidden: int = 64,
        decay_max: float = 0.0,
        decay_min: float = -1.0,
        decay_loops: int = 10,
    ) -> None:
        super().__init__()
        require_range(t_start, t_end)
        require_finite("theta", theta)
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        self.low, self.t_end, self.start, self.hidden = float(t_start), float(t_end), float(theta), hidden
        self.reversal = Reversal(decay_max, decay_min, decay_loops)
        self.strength = self.reversal(1)
        self.network = nn.Sequential()

    def prepare(self, classes: int) -> None:
        last = nn.Linear(self.hidden, 1)
        nn.init.zeros_(last.weight)  # every sample starts at the same temperature
        nn.init.constant_(last.bias, self.start)
        self.network = nn.Sequential(nn.Linear(2 * classes, self.hidden), nn.ReLU(), last)

    def set_progress(self, progress: Progress) -> None:
        self.strength = self.reversal(progress.epoch)

    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T by sample ``(N,)``."""
        both = torch.cat([teacher.float(), student.detach().float()], dim=1)
        with torch.autocast(both.device.type, enabled=False):
            raw = self.network(both)[:, 0]
        return reverse(self.low + self.t_end * torch.sigmoid(raw), self.strength)
