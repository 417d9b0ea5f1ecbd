"""LogitMSE: match the teacher's logits themselves.

Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014 (arXiv:1312.6184); compared with KD by Kim et al., 2021
(arXiv:2105.08919): ``1 / (B K) sum (z_s - z_t)^2``, which KD approaches, but for centring and scale, as T grows.

Known to go wrong: the mean over classes makes it K times smaller than a squared distance of vectors; unlike KD it also
asks for the teacher's mean logit, which no softmax sees.
"""

from torch import Tensor

from distill.losses.base import Loss, require_same_classes, require_teacher
from distill.outputs import Batch, Outputs, Specs


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference over batch and classes.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
    """
    return (student.float() - teacher.detach().float()).square().mean()


class LogitMSE(Loss):
    """Mean squared difference of logits."""

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        return logit_mse(student.logits, require_teacher(teacher).logits)
