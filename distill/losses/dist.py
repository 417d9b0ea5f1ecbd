"""DIST: match correlations between classes and within classes instead of the probabilities themselves.

Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022 (arXiv:2205.10536), section 4, with
Pearson's r of softened probabilities: ``beta tau^2 (1 - mean_b r(rows)) + gamma tau^2 (1 - mean_k r(columns))``.

Known to go wrong: columns hold one batch, so the second part depends on the batch size and is 1, without gradient, for
a single sample; r of a constant row or column is taken as 0. Near constant student probabilities r is singular: a
classifier that starts at zero has a gradient of 1e5 to 1e6, so start it at random or warm the weight up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, number, require_positive, require_same_classes, require_teacher
from distill.losses.gathering import gather_logits
from distill.losses.soft import by_sample, heat, soften
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Schedule

EPS = 1e-8  # added to the product of the norms, as in the paper's code


def pearson(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Return Pearson's correlation along ``dim`` of two tensors of one shape; 0 where one of them is constant."""
    a, b = a - a.mean(dim, keepdim=True), b - b.mean(dim, keepdim=True)
    norms = torch.linalg.vector_norm(a, dim=dim) * torch.linalg.vector_norm(b, dim=dim)
    return (a * b).sum(dim) / (norms + EPS)


def dist(student: Tensor, teacher: Tensor, temperature: Heat, beta: float, gamma: float, t2: bool = True) -> Tensor:
    """Return the weighted sum of the relation between classes and the relation within them.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: tau, above 0; of one a sample the second part, which has no samples, takes the mean of tau^2.
        beta: weight of the correlation over the classes of a sample.
        gamma: weight of the correlation over the samples of a class.
        t2: multiply by tau^2.
    """
    soft = soften(student, teacher, temperature, t2)
    p_s, p_t = F.softmax(soft.student, dim=1), F.softmax(soft.teacher, dim=1)
    inter = by_sample(1 - pearson(p_s, p_t, dim=1), soft.factor)
    mean = soft.factor.mean() if isinstance(soft.factor, Tensor) else soft.factor
    intra = mean * (1 - pearson(p_s, p_t, dim=0).mean())
    return beta * inter + gamma * intra


class DIST(Loss):
    """Correlations of softened probabilities over classes and over samples.

    Args:
        temperature: tau; divides both logits.
        beta: weight of the relation between the classes of a sample.
        gamma: weight of the relation between the samples of a class.
        t2: multiply by tau^2.
        gather: in a distributed run, correlate over the samples of all processes; else each process takes the second
            part over its own, which is another loss, of a smaller batch.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(
        self,
        temperature: float | Schedule | Adaptive = 4.0,
        beta: float | Schedule = 1.0,
        gamma: float | Schedule = 1.0,
        t2: bool = True,
        gather: bool = True,
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature = temperature
        self.beta = beta
        self.gamma = gamma
        self.t2 = t2
        self.gather = gather

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        if self.gather:
            student, teacher, batch = gather_logits(student, teacher, batch)
        hyper = heat(self.temperature, student, teacher, batch), number(self.beta), number(self.gamma)
        return dist(student.logits, teacher.logits, *hyper, self.t2)
