"""VID: make the teacher's feature likely under a Gaussian whose mean the student predicts.

Ahn et al., "Variational Information Distillation for Knowledge Transfer", CVPR 2019 (arXiv:1904.05835), equations 4
to 6: ``(t - mu(s))^2 / (2 v) + log(v) / 2`` with a trained variance ``v = softplus(alpha) + eps`` of each channel,
averaged over batch, channels and positions. ``mu`` is three 1x1 convolutions without bias, as wide as the teacher's
map, with a ReLU after the first two; linear layers for tokens and vectors.

Known to go wrong: a value below 0 is right, for ``log v`` falls below 0 where the student predicts well. One public
implementation never trains the variances (``train_variance: false``), which leaves a squared distance over ten.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.paired import Pair, Paired, same_size
from distill.outputs import Batch, Outputs, Specs


def vid(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    """Return the negative log-likelihood of the teacher's feature without its constant, averaged over all entries.

    Args:
        mean: what the student predicts, ``(N, C, H, W)``, ``(N, L, C)`` or ``(N, C)``.
        teacher: feature of the same shape; receives no gradient.
        variance: v, by channel ``(C,)``, above 0.
    """
    v = variance[:, None, None] if mean.dim() == 4 else variance
    return ((mean.float() - teacher.detach().float()).square() / v + v.log()).mean() / 2


def regressor(pair: Pair) -> nn.Module:
    """Return the layers that predict the mean.

    Raises:
        ValueError: when a map is to predict no map, or tokens others than as many.
    """
    (inputs, outputs), layer = (pair.student[-1], pair.teacher[-1]), _linear
    if len(pair.student) == len(pair.teacher) == 3:
        (inputs, outputs), layer = (pair.student[0], pair.teacher[0]), _conv
    elif len(pair.student) == 3 or pair.student[:-1] != pair.teacher[:-1]:
        pair.refuse("choose two maps, tokens of the same number, or two vectors")
    first, second, third = layer(inputs, outputs), layer(outputs, outputs), layer(outputs, outputs)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def _linear(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs, bias=False)


class VID(Paired):
    """Variational information distillation.

    Args:
        student_taps: features of the student, shallow to deep.
        teacher_taps: features of the teacher in the same order; of two maps the larger is averaged to the smaller.
        init_variance: v at the start.
        eps: least variance.
        train_variance: learn v; false keeps it as it starts.

    Raises:
        ValueError: when the numbers of taps differ, or not ``init_variance > eps > 0``.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        init_variance: float = 5.0,
        eps: float = 1e-5,
        train_variance: bool = True,
    ) -> None:
        super().__init__(student_taps, teacher_taps)
        if not init_variance > eps > 0:
            raise ValueError(f"init_variance={init_variance:g} must be above eps={eps:g}, and eps above 0")
        self.start = math.log(math.expm1(init_variance - eps))  # softplus(start) + eps is init_variance
        self.eps = eps
        self.train_variance = train_variance
        self.regressors = nn.ModuleList()

    def prepare(self, student: Specs, teacher: Specs) -> None:
        pairs = self.pairs(student, teacher)
        self.regressors = nn.ModuleList(map(regressor, pairs))
        for position, pair in enumerate(pairs):
            alpha = torch.full((pair.teacher[0 if len(pair.teacher) == 3 else -1],), self.start)
            if self.train_variance:
                self.register_parameter(f"alpha{position}", nn.Parameter(alpha))
            else:
                self.register_buffer(f"alpha{position}", alpha)

    def variance(self, position: int) -> Tensor:
        """Return the variances ``(C,)`` of one pair."""
        alpha: Tensor = getattr(self, f"alpha{position}")
        return F.softplus(alpha) + self.eps

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        values = []
        with torch.autocast(student.logits.device.type, enabled=False):
            for position, (s, t) in enumerate(self.features(student, teacher)):
                s, t = same_size(s, t) if s.dim() == 4 else (s, t)
                values.append(vid(self.regressors[position](s), t, self.variance(position)))
        return torch.stack(values).sum()
