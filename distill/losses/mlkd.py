"""MLKD: match predictions of each sample, between samples and between classes, at several temperatures and two views.

Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023, section 3. With ``P = softmax(z / T)`` (N, K), for every
T and for the batch as well as for a strong augmentation of it:
``T^2 KL(P_t || P_s) + 1/N |P_s P_s' - P_t P_t'|^2 + 1/K |P_s' P_s - P_t' P_t|^2``.

Known to go wrong: the published code scales a sum that is already reduced by the mean of a confidence mask, compares
samples and classes in the weak view only, and takes weak logits for two of five "strong" temperatures;
``strict_reference=true`` does the same, because the published numbers were made that way. Those runs see two views a
step and some ran twice as long: compare by cost.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.data.augment.randaugment import RandAugment
from distill.losses.base import Loss, View, require_same_classes, require_teacher
from distill.outputs import Batch, Outputs, Specs

STRONG = "strong"
STRICT_STRONG = 3
"""Temperatures at which the published code reads the strong view in its "strong" terms; then the weak one."""


class Levels(NamedTuple):
    """What the three levels of one view come to, by temperature ``(T,)`` each."""

    instance: Tensor
    batch: Tensor
    classes: Tensor


def levels(student: Tensor, teacher: Tensor, temperatures: Sequence[float] | Tensor) -> Levels:
    """Return the three levels of one view.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperatures: all above 0.
    """
    t = torch.as_tensor(temperatures, dtype=torch.float32, device=student.device).view(-1, 1, 1)
    log_s = F.log_softmax(student.float() / t, dim=2)
    log_t = F.log_softmax(teacher.detach().float() / t, dim=2)
    p_s, p_t = log_s.exp(), log_t.exp()
    samples, classes = student.shape
    kl = F.kl_div(log_s, log_t, reduction="none", log_target=True).sum((1, 2)) / samples
    with torch.autocast(student.device.type, enabled=False):
        between = (p_s @ p_s.mT - p_t @ p_t.mT).square().sum((1, 2)) / samples
        across = (p_s.mT @ p_s - p_t.mT @ p_t).square().sum((1, 2)) / classes
    return Levels(t.flatten().square() * kl, between, across)


def mlkd(
    weak: tuple[Tensor, Tensor],
    strong: tuple[Tensor, Tensor],
    temperatures: Sequence[float] | Tensor,
    strict: bool = False,
) -> Tensor:
    """Return the sum over levels, temperatures and views.

    Args:
        weak: logits of student and teacher of the batch ``(N, K)``; the teacher's receive no gradient.
        strong: the same of its strong augmentation.
        temperatures: all above 0.
        strict: reproduce the published code.
    """
    one, other = levels(*weak, temperatures), levels(*strong, temperatures)
    if not strict:
        return sum((level.sum() for level in (*one, *other)), start=one.instance.new_zeros(()))
    p = F.softmax(weak[1].detach().float(), dim=1)
    unsure, rare = (_lower_half(found) for found in (p.max(1).values, p.sum(0)))
    instance = unsure * one.instance.sum() + other.instance[:STRICT_STRONG].sum() + one.instance[STRICT_STRONG:].sum()
    return instance + unsure * one.batch.sum() + rare * one.classes.sum()


def _lower_half(values: Tensor) -> Tensor:
    """Return the share of values up to their median, which is what is left of the published mask."""
    return (values <= values.quantile(0.5)).float().mean()


class MLKD(Loss):
    """Multi-level logit distillation.

    Args:
        temperatures: T of every level, all above 0.
        num_ops: operations of RandAugment in the strong view.
        magnitude: of these operations, 0 to 30.
        strong_ce: weight, inside this term, of the cross-entropy of the strong view.
        strict_reference: reproduce the published code; its strong view counts at the first three temperatures only.

    Raises:
        ValueError: when there is no temperature or one that is not above 0.
    """

    mixes: ClassVar[bool] = False
    temperatures: Tensor

    def __init__(
        self,
        temperatures: list[float],
        num_ops: int = 2,
        magnitude: int = 10,
        strong_ce: float = 1 / 9,
        strict_reference: bool = False,
    ) -> None:
        super().__init__()
        if not temperatures or not min(temperatures) > 0:
            raise ValueError(f"temperatures must be numbers above 0, at least one of them, got {temperatures}")
        self.register_buffer("temperatures", torch.tensor([float(t) for t in temperatures]), persistent=False)
        self.augment = RandAugment(num_ops, magnitude)
        self.strong_ce = strong_ce
        self.strict_reference = strict_reference

    def views(self) -> Mapping[str, View]:
        return {STRONG: self._strong}

    def _strong(self, batch: Batch) -> Tensor:
        # a seed of its own, or a strong view of a strongly augmented image would draw the same operations again
        params = self.augment.sample(1 << 39, batch.view.cpu(), batch.index.cpu(), batch.inputs.shape[1:])
        return self.augment.apply(batch.inputs, params.to(batch.inputs.device))

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        mine, other = student.views[STRONG].logits, teacher.views[STRONG].logits
        value = mlkd((student.logits, teacher.logits), (mine, other), self.temperatures, self.strict_reference)
        return value + self.strong_ce * F.cross_entropy(mine.float(), batch.target)
