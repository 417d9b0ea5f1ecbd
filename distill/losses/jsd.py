"""JSD: a divergence between the two KL divergences, bounded whatever the logits are.

Agarwal et al., "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes", ICLR 2024
(arXiv:2306.13649), equation 1: ``T^2 (beta KL(p_t || m) + (1 - beta) KL(p_s || m))`` with ``m = beta p_t + (1 - beta)
p_s``, summed over classes, averaged over the batch; beta = 1/2 is the Jensen-Shannon divergence (Lin, 1991). The paper
has T = 1 and so no T^2.

Known to go wrong: at beta 0 and 1 the formula is 0 for any student, so both are refused, though one library calls the
two KL divergences by these names; divided by beta it tends to KD for beta to 0, divided by 1 - beta to the reverse KL
for beta to 1, so a beta near an end also asks for a larger weight. It is at most T^2 ln 2, and a student that is far
off is pulled less than by KD.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, number, require_positive, require_same_classes, require_teacher
from distill.losses.soft import divergence, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule, trajectory


def jsd(student: Tensor, teacher: Tensor, temperature: Heat, beta: float = 0.5, t2: bool = True) -> Tensor:
    """Return the generalised Jensen-Shannon divergence at one temperature.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, above 0; one, one a sample, or one for the student and one for the teacher.
        beta: share of the teacher in the mixture, above 0 and below 1.
        t2: multiply by T^2.
    """
    soft = soften(student, teacher, temperature, t2)
    log_s, log_t = F.log_softmax(soft.student, dim=1), F.log_softmax(soft.teacher, dim=1)
    mixture = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
    to_teacher, to_student = (divergence(mixture, log, soft.factor) for log in (log_t, log_s))
    return beta * to_teacher + (1 - beta) * to_student


class JSD(Loss):
    """Generalised Jensen-Shannon divergence of softened probabilities.

    Args:
        temperature: T; divides both logits.
        beta: share of the teacher in the mixture, above 0 and below 1.
        t2: multiply by T^2, which keeps the size of the gradient when T changes.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less, or beta leaves (0, 1).
    """

    def __init__(
        self, temperature: float | Schedule | Adaptive = 4.0, beta: float | Schedule = 0.5, t2: bool = True
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        for value in trajectory(beta):
            if not 0 < value < 1:
                raise ValueError(f"beta must be above 0 and below 1, got {value:g}; at the ends take loss kd or rkl")
        self.temperature = temperature
        self.beta = beta
        self.t2 = t2

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        hyper = heat(self.temperature, student, teacher, batch), number(self.beta)
        return jsd(student.logits, teacher.logits, *hyper, self.t2)
