"""KD: match the teacher's softened class probabilities.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015 (arXiv:1503.02531), section 2:
``T^2 KL(softmax(z_t / T) || softmax(z_s / T))``, summed over classes, averaged over the batch.

Known to go wrong: averaging over classes too makes the term K times smaller; leaving out T^2 makes its gradient
shrink as 1/T^2. With a temperature that moves during the run T^2 is a second, hidden weight schedule;
``t2=False`` takes it out.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, number, require_positive, require_same_classes, require_teacher
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.base import Schedule


def kd(student: Tensor, teacher: Tensor, temperature: float, t2: bool = True) -> Tensor:
    """Return the KL divergence from teacher to student at one temperature.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0.
        t2: multiply by T^2.
    """
    log_s = F.log_softmax(student.float() / temperature, dim=1)
    log_t = F.log_softmax(teacher.detach().float() / temperature, dim=1)
    value = F.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
    return value * temperature**2 if t2 else value


class KD(Loss):
    """KL divergence from the teacher's to the student's softened probabilities.

    Args:
        temperature: T; divides both logits.
        t2: multiply by T^2, which keeps the size of the gradient when T changes.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(self, temperature: float | Schedule = 4.0, t2: bool = True) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return kd(student.logits, require_teacher(teacher).logits, number(self.temperature), self.t2)
