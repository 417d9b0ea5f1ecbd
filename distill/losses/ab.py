"""AB: match which neurons are active, not how much.

Heo et al., "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons", AAAI 2019
(arXiv:1811.03233), equation 5, on features from before the ReLU: where the teacher's neuron is active
``relu(mu - s)^2``, elsewhere ``relu(mu + s)^2``, summed over neurons, averaged over the batch. The paper trains on this
alone first and on the labels afterwards: ``recipe=cifar_crd_two_stage``.

Known to go wrong: the value is a sum over all neurons of a map, thousands at the start; public code multiplies it by
3/1000, which is the weight here. Taps from behind a ReLU have no negative entry and say nothing of the boundary.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import require_positive
from distill.losses.paired import Paired, pointwise, same_size
from distill.outputs import Batch, Outputs, Specs


def ab(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """Return the alternative loss of activation boundaries, summed over neurons, averaged over the batch.

    Args:
        student: connected feature ``(N, ...)``, from before the activation.
        teacher: feature of the same shape, from before the activation; receives no gradient.
        margin: mu, above 0.
    """
    student, active = student.float(), teacher.detach() > 0
    missed = torch.where(active, F.relu(margin - student), F.relu(margin + student))
    return missed.square().flatten(1).sum(1).mean()


class AB(Paired):
    """Activation boundaries.

    Args:
        student_taps: maps of the student from before the activation, shallow to deep.
        teacher_taps: maps of the teacher from before the activation, in the same order; of two sizes the larger map is
            averaged. Maps of equal shape meet as they are, others through a 1x1 convolution with batch norm.
        margin: mu, how far beyond the boundary the student's neurons shall be.
        decay: weight of each pair relative to the next deeper one; the deepest has 1.

    Raises:
        ValueError: when the numbers of taps differ, or margin or decay is not above 0.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1_preact", "stage2_preact", "stage3_preact"),
        teacher_taps: Sequence[str] = ("stage1_preact", "stage2_preact", "stage3_preact"),
        margin: float = 1.0,
        decay: float = 0.5,
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        require_positive("margin", margin)
        require_positive("decay", decay)
        self.margin = margin
        self.decay = decay
        self.connectors = nn.ModuleList()

    def prepare(self, student: Specs, teacher: Specs) -> None:
        self.connectors = nn.ModuleList()
        for pair in self.pairs(student, teacher):
            pair.require_maps()
            self.connectors.append(nn.Identity() if pair.student == pair.teacher else pointwise(pair))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):
            total = student.logits.new_zeros((), dtype=torch.float32)
            for connect, (s, t) in zip(self.connectors, self.features(student, teacher), strict=True):
                s, t = same_size(s, t)
                total = self.decay * total + ab(connect(s), t, self.margin)
            return total
