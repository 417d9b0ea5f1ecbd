"""OFD: match features from before the ReLU, but for what the ReLU throws away.

Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019 (arXiv:1904.01866), equations 1 to 3: with the
teacher's feature cut off at a negative margin, ``t' = max(t, m)``, the sum of ``(s - t')^2`` over the neurons where
``t' > 0`` or ``s > t'``, averaged over the batch. The margin is the mean of the teacher's negative values by channel.

Known to go wrong: public code works the margin out from the batch norm before the ReLU, which a residual sum is not.
Here it is the mean over the first batches, as the paper defines it: buffers that a checkpoint keeps, added up over all
processes. Public code leaves the teacher in training mode, as ``teacher.NAME.batch_norm=train`` does. The value is a
sum over neurons, hence the weight 0.001.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill.losses.base import require_positive
from distill.losses.paired import Paired, pointwise, same_size
from distill.outputs import Batch, Outputs, Specs


def ofd(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Return the partial squared distance, summed over neurons, averaged over the batch.

    Args:
        student: connected map ``(N, C, H, W)`` from before the ReLU.
        teacher: map of the same shape, from before the ReLU; receives no gradient.
        margin: least value asked for, by channel ``(C,)``, 0 or less.
    """
    student = student.float()
    goal = torch.maximum(teacher.detach().float(), margin[:, None, None])
    counted = (goal > 0) | (student > goal)
    return torch.where(counted, student - goal, 0.0).square().flatten(1).sum(1).mean()


def negatives(feature: Tensor) -> Tensor:
    """Return sum and number ``(2, C)`` of the negative values in each channel of a map ``(N, C, H, W)``."""
    return torch.stack([feature.clamp(max=0).sum((0, 2, 3)), (feature < 0).sum((0, 2, 3))])


class OFD(Paired):
    """Overhaul of feature distillation.

    Args:
        student_taps: maps of the student from before the ReLU, shallow to deep.
        teacher_taps: maps of the teacher from before the ReLU, in the same order; larger ones are averaged.
        decay: weight of each pair relative to the next deeper one; the deepest has 1.
        margin_batches: batches from which the margins are estimated, from the first on; later they stay.

    Raises:
        ValueError: when the numbers of taps differ, or decay or the number of batches is not above 0.
    """

    recordable = False  # the host counts the batches that margins come from

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1_preact", "stage2_preact", "stage3_preact"),
        teacher_taps: Sequence[str] = ("stage1_preact", "stage2_preact", "stage3_preact"),
        decay: float = 0.5,
        margin_batches: int = 100,
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        require_positive("decay", decay)
        require_positive("margin_batches", margin_batches)
        self.decay = decay
        self.margin_batches = margin_batches
        self.connectors = nn.ModuleList()
        self.batches = 0

    def prepare(self, student: Specs, teacher: Specs) -> None:
        pairs = self.pairs(student, teacher)
        self.connectors = nn.ModuleList(map(pointwise, pairs))
        for number, pair in enumerate(pairs):
            self.register_buffer(f"negatives{number}", torch.zeros(2, pair.teacher[0]))

    def margin(self, number: int) -> Tensor:
        """Return the margins ``(C,)`` of one pair; 0 for a channel of which no negative value was seen."""
        total, count = self.get_buffer(f"negatives{number}")
        return total / count.clamp(min=1)

    @torch.no_grad()
    def observe(self, number: int, teacher: Tensor) -> None:
        """Add a batch of the teacher's feature ``(N, C, H, W)`` to the estimate, of all processes together."""
        found = negatives(teacher)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(found)
        self.get_buffer(f"negatives{number}").add_(found)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):
            total = student.logits.new_zeros((), dtype=torch.float32)
            for number, (s, t) in enumerate(self.features(student, teacher)):
                s, t = same_size(s, t)
                if self.batches < self.margin_batches:
                    self.observe(number, t)
                total = self.decay * total + ofd(self.connectors[number](s), t, self.margin(number))
            self.batches = min(self.batches + 1, self.margin_batches)
            return total

    # a number of the host, for a buffer would have to be read from the device in every step
    def get_extra_state(self) -> dict[str, int]:
        """Return how many batches the margins come from."""
        return {"batches": self.batches}

    def set_extra_state(self, state: Any) -> None:
        """Take up the number of batches of a checkpoint."""
        self.batches = int(state["batches"])
