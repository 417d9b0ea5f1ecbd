"""Feature: the plain distance of features, through a projector where shapes differ.

``l2``: mean squared difference, as in FitNet (Romero et al. 2015, arXiv:1412.6550). ``cosine``: one minus the cosine
over channels, averaged over batch and positions, blind to length (EVA, Fang et al. 2023, arXiv:2211.07636).
``smooth_l1``: squared within ``beta``, absolute beyond, so that outliers pull less (Wei et al. 2022, arXiv:2205.14141).

Known to go wrong: the gradient of the cosine grows as one over the length of the student's feature, and a map of zeros
has a cosine of 0. A projector that ends without ReLU can follow any tap; one that ends with it (``regressor``) cannot
reach the negative entries of a tap from before the activation.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.connectors import connect
from distill.losses.base import find_spec, require_positive
from distill.losses.paired import Paired
from distill.outputs import Batch, Outputs, Specs

DISTANCES = ("l2", "cosine", "smooth_l1")
EPS = 1e-6  # least length that a feature is divided by


def feature(student: Tensor, teacher: Tensor, distance: str, beta: float = 1.0) -> Tensor:
    """Return the distance of two features, averaged over the batch and everything else that it does not sum over.

    Args:
        student: connected feature, ``(N, C, H, W)``, ``(N, L, D)`` or ``(N, D)``.
        teacher: feature of the same shape; receives no gradient.
        distance: ``"l2"``, ``"cosine"`` or ``"smooth_l1"``, one of :data:`DISTANCES`.
        beta: of ``smooth_l1``, where it changes from squared to absolute, above 0.
    """
    student, teacher = student.float(), teacher.detach().float()
    if distance == "cosine":
        channels = 1 if student.dim() == 4 else -1
        s, t = (F.normalize(x, dim=channels, eps=EPS) for x in (student, teacher))
        return 1 - (s * t).sum(channels).mean()
    difference = student - teacher
    if distance == "smooth_l1":
        return F.smooth_l1_loss(difference, torch.zeros_like(difference), beta=beta)
    return difference.square().mean()


class Feature(Paired):
    """Distance of features.

    Args:
        student_taps: features of the student.
        teacher_taps: features of the teacher in the same order.
        distance: ``"l2"``, ``"cosine"`` or ``"smooth_l1"``.
        beta: of ``smooth_l1``, where it changes from squared to absolute.
        connector: ``"regressor"``, ``"projector"`` or ``"identity"``, see :mod:`distill.connectors`.

    Raises:
        ValueError: when the numbers of taps differ, there is no such distance, or beta is not above 0.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage3",),
        teacher_taps: Sequence[str] = ("stage3",),
        distance: str = "l2",
        beta: float = 1.0,
        connector: str = "projector",
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
        require_positive("beta", beta)
        self.distance = distance
        self.beta = beta
        self.kind = connector
        self.connectors = nn.ModuleList()

    def prepare(self, student: Specs, teacher: Specs) -> None:
        self.connectors = nn.ModuleList(
            connect(find_spec(student, mine, "student"), find_spec(teacher, other, "teacher"), self.kind, mine, other)
            for mine, other in zip(self.mine, self.other, strict=True)
        )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with torch.autocast(student.logits.device.type, enabled=False):
            pairs = zip(self.connectors, self.features(student, teacher), strict=True)
            return torch.stack([feature(join(s), t, self.distance, self.beta) for join, (s, t) in pairs]).sum()
