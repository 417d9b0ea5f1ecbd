"""CTKD: one temperature that is learned against the student, by a reversed gradient.

Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023 (arXiv:2211.16231), section 3.2:
``T = t_start + t_end sigmoid(theta)``, where theta takes steps that raise the loss, times a factor which grows from 0
to 1 along half a cosine over the first epochs, the curriculum.

Known to go wrong: the temperature may fall to its floor ``t_start`` in a few epochs and stay there, so that the run is
one of a constant T in disguise; look at ``schedule/kd.temperature`` and compare with ``+experiment=ctkd_fixed``. The
loss that theta raises has the factor T^2 in it, so ``t2`` of the loss decides where T goes. Each term has its own T.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Progress, require_finite


class CTKD(Adaptive):
    """A learned temperature for all samples; its parameter trains in the student's optimizer, weight decay included.

    Args:
        t_start: lowest temperature, tau_init in the paper; above 0.
        t_end: length of the range above it, tau_range.
        theta: start of theta; 1 gives ``t_start + 0.73 t_end``.
        decay_max: factor of the gradient before training.
        decay_min: factor from epoch ``decay_loops`` on; below 0, for the gradient is reversed.
        decay_loops: epochs from the one to the other, counted from 1.

    Attributes:
        strength: factor of the gradient in this epoch.

    Raises:
        ValueError: when a temperature could be 0 or less, or the gradient would not be reversed.
    """

    def __init__(
        self,
        t_start: float = 1.0,
        t_end: float = 20.0,
        theta: float = 1.0,
        decay_max: float = 0.0,
        decay_min: float = -1.0,
        decay_loops: int = 10,
    ) -> None:
        super().__init__()
        require_range(t_start, t_end)
        require_finite("theta", theta)
        self.low, self.t_end = float(t_start), float(t_end)
        self.reversal = Reversal(decay_max, decay_min, decay_loops)
        self.strength = self.reversal(1)
        self.theta = nn.Parameter(torch.tensor(float(theta)))

    def set_progress(self, progress: Progress) -> None:
        self.strength = self.reversal(progress.epoch)

    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return T of shape ()."""
        return reverse(self.low + self.t_end * torch.sigmoid(self.theta.float()), self.strength)


class Reversal:
    """The factor of the gradient by epoch: half a cosine, then constant.

    Args:
        decay_max: value at epoch 0.
        decay_min: value from epoch ``decay_loops`` on; below 0.
        decay_loops: number of epochs between them.

    Raises:
        ValueError: when the values are not finite, the last is not below 0, or there is no epoch.
    """

    def __init__(self, decay_max: float, decay_min: float, decay_loops: int) -> None:
        require_finite("decay_max", decay_max)
        require_finite("decay_min", decay_min)
        if not decay_min < 0:
            raise ValueError(f"decay_min must be below 0, which reverses the gradient, got {decay_min:g}")
        if decay_loops < 1:
            raise ValueError(f"decay_loops must be at least 1 epoch, got {decay_loops}")
        self.high, self.low, self.loops = float(decay_max), float(decay_min), decay_loops

    def __call__(self, epoch: int) -> float:
        """Return the factor in an epoch, counted from 1."""
        remaining = (1 + math.cos(math.pi * min(epoch, self.loops) / self.loops)) / 2
        return remaining * self.high + (1 - remaining) * self.low


def require_range(t_start: float, t_end: float) -> None:
    """Refuse a range that is empty, infinite or reaches 0.

    Raises:
        ValueError: names the argument and its value.
    """
    for name, value in (("t_start", t_start), ("t_end", t_end)):
        require_finite(name, value)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value:g}; T is from t_start to t_start + t_end")


def reverse(temperature: Tensor, strength: float) -> Tensor:
    """Return a temperature as it is, whose gradient is multiplied by ``strength`` on its way back (Ganin, 2015)."""
    if temperature.requires_grad:
        temperature.register_hook(lambda gradient: strength * gradient)
    return temperature
