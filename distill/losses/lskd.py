"""LSKD: standardise the logits of each sample, then take another loss of them.

Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024 (arXiv:2403.01427): ``loss(Z(z_s), Z(z_t))``
with ``Z(z) = (z - mean z) / (std z + eps)`` over the classes of each sample, std with K - 1; the base temperature of
the paper is that of the loss inside.

Known to go wrong: mean and std of the student are part of the graph; detached, the gradient is another one. A student
whose logits are all equal (a classifier that starts at zero) has a gradient of 1 / eps: start it at random. The loss
inside sees logits of unit variance, so an adaptive temperature inside is one of these too, and a weight has to be
several times that of the loss alone (9 for 0.9 in the paper). With KD inside, shift and scale of either side's logits
change nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from distill.losses.base import Loss, View, require_others
from distill.outputs import Batch, Outputs, Specs, TrainingSet


def standardize(logits: Tensor, eps: float = 1e-7) -> Tensor:
    """Return logits ``(N, K)`` less their mean over their unbiased standard deviation plus ``eps``, in float32."""
    logits = logits.float()
    centred = logits - logits.mean(dim=1, keepdim=True)
    # the gradient of a norm at 0 is 0, that of a square root would be NaN
    std = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / (logits.shape[1] - 1) ** 0.5
    return centred / (std + eps)


class LSKD(Loss):
    """Another loss, of standardised logits; features pass as they are.

    Args:
        loss: the loss inside, such as KD or DKD, with the base temperature.
        eps: added to the standard deviation; above 0.

    Raises:
        ValueError: when ``eps`` is 0 or less.
    """

    def __init__(self, loss: Loss, eps: float = 1e-7) -> None:
        super().__init__()
        if not eps > 0:
            raise ValueError(f"eps must be above 0, got {eps:g}")
        self.loss = loss
        self.eps = eps
        # of this object and not of its class: they are what the loss inside says
        self.reads_teacher = loss.reads_teacher  # type: ignore[misc]
        self.mixes = loss.mixes  # type: ignore[misc]

    def views(self) -> Mapping[str, View]:
        return self.loss.views()

    def student_taps(self) -> tuple[str, ...]:
        return self.loss.student_taps()

    def teacher_taps(self) -> tuple[str, ...]:
        return self.loss.teacher_taps()

    def prepare(self, student: Specs, teacher: Specs) -> None:
        self.loss.prepare(student, teacher)
        require_others(student, "LSKD")

    def meet(self, data: TrainingSet) -> None:
        self.loss.meet(data)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        value: Tensor = self.loss(self._standard(student), teacher and self._standard(teacher), batch)
        return value

    def _standard(self, outputs: Outputs) -> Outputs:
        views = {name: self._standard(view) for name, view in outputs.views.items()}
        return Outputs(standardize(outputs.logits, self.eps), outputs.features, views)
