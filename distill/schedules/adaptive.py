"""Adaptive: a temperature that depends on what student and teacher say of a batch, or is learned with the student.

Options of the config group ``scheduler`` beside the schedules that follow the clock; taken by every loss that has a
``temperature``. The mean over the epoch is logged where the value of a schedule is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from distill.schedules.base import Progress

Heat = float | Tensor | tuple[Tensor, Tensor]
"""A temperature: a number, a tensor of shape () or (N,), or one such tensor for the student and one for the teacher."""


class Adaptive(nn.Module, ABC):
    """Base of temperatures that are computed in every step.

    Parameters that a subclass registers are trained by the optimizer of the student. What a step changes beside them
    are tensors, in place: a recorded step (``graph=true``) does to the same memory what it did when it was recorded.

    Attributes:
        low: no temperature is below it; above 0.
        tally: sum and number of the temperatures of this epoch ``(2,)``, float64.
    """

    low: float

    def __init__(self) -> None:
        super().__init__()
        # no buffer, which DDP would overwrite by that of rank 0 and weight averaging would average
        self.tally = torch.zeros(2, dtype=torch.float64)

    def prepare(self, classes: int) -> None:  # noqa: B027 - most ask for no size
        """Build what depends on the number of classes; called once, before the optimizer is made."""

    def set_progress(self, progress: Progress) -> None:  # noqa: B027 - most do not follow the clock
        """Learn where training stands; called when schedules move."""

    @abstractmethod
    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return the temperature of a batch.

        Args:
            student: logits ``(N, K)``.
            teacher: logits ``(N, K)``.
            target: class indices ``(N,)``.
        """

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        """Return :meth:`temperatures` of detached teacher logits, and count them for the log."""
        heat = self.temperatures(student, teacher.detach(), target)
        if self.training:
            self._count(heat, student.device)
        return heat

    @torch.no_grad()
    def _count(self, heat: Heat, device: torch.device) -> None:
        mean = (heat[0] * heat[1]).sqrt() if isinstance(heat, tuple) else heat
        values = torch.as_tensor(mean, dtype=torch.float64, device=device).reshape(-1)
        if self.tally.device != device:
            self.tally = self.tally.to(device)
        self.tally += torch.stack([values.sum(), torch.full_like(values[0], len(values))])

    def get_extra_state(self) -> Tensor:
        """Return what a checkpoint inside an epoch has to keep beside the parameters."""
        return self.tally.cpu()

    def set_extra_state(self, state: Tensor) -> None:
        """Take up :meth:`get_extra_state`."""
        self.tally = state.to(self.tally.device).clone()


def require_bounds(low: float, high: float) -> None:
    """Refuse bounds of a temperature that are out of order, infinite, or not above 0.

    Raises:
        ValueError: names ``low`` and ``high`` and their values.
    """
    if not 0 < low <= high < math.inf:
        raise ValueError(f"low={low:g}, high={high:g}: must be finite temperatures with 0 < low <= high")


def centred(logits: Tensor) -> Tensor:
    """Return logits ``(N, K)`` in float32 with mean 0 over the classes, which no softmax sees; the largest is >= 0."""
    logits = logits.float()
    return logits - logits.mean(1, keepdim=True)
