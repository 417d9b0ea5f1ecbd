"""MiniLM: match how the tokens of one attention layer relate by queries, keys and values.

Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation", Findings of ACL 2021 (arXiv:2012.15828),
equations 3 to 5: ``sum_r 1/(A L) sum_a,l KL(R_t || R_s)``, averaged over the batch, with
``R = softmax(X Y^T / sqrt(d))`` of the pair r of X and Y out of queries, keys and values, each cut into A relation
heads of width d. MiniLM (NeurIPS 2020, arXiv:2002.10957) is ``relations=[qk,vv]`` of the last layer with the networks'
own heads.

Known to go wrong: the tap is the fused ``qkv`` layer of timm's ViT, before the norms of queries and keys that some of
its models have; both networks must cut the image into as many tokens.
"""

from collections.abc import Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Specs

PARTS = "qkv"


def relation(fused: Tensor, pair: str, heads: int) -> Tensor:
    """Return the logarithm of a relation ``(N, heads, L, L)``, a distribution in its last dimension.

    Args:
        fused: queries, keys and values behind each other ``(N, L, 3 D)``.
        pair: two of ``q``, ``k`` and ``v``.
        heads: relation heads A, a divisor of D.
    """
    parts = fused.float().unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    a, b = (parts[PARTS.index(letter)] for letter in pair)
    return F.log_softmax(a @ b.mT / sqrt(a.shape[-1]), dim=-1)


def minilm(student: Tensor, teacher: Tensor, relations: Sequence[str], heads: int) -> Tensor:
    """Return the KL divergence from the teacher's to the student's relations, summed over them.

    Args:
        student: queries, keys and values ``(N, L, 3 D)``.
        teacher: the same of another width ``(N, L, 3 E)``; receives no gradient.
        relations: such as ``qq``, ``kk``, ``vv``, or ``qk``.
        heads: relation heads, a divisor of D and E.
    """
    total = student.new_zeros((), dtype=torch.float32)
    for pair in relations:
        log_s, log_t = relation(student, pair, heads), relation(teacher.detach(), pair, heads)
        total = total + F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(-1).mean()
    return total


class MiniLM(Loss):
    """Relations of queries, keys and values between the tokens of one layer of each network.

    Args:
        student_tap: name of the student's fused query-key-value layer.
        teacher_tap: name of the teacher's, of any depth and width.
        relations: pairs of ``q``, ``k`` and ``v``.
        heads: relation heads A, whatever the numbers of attention heads are.

    Raises:
        ValueError: when there is no relation, or one that is no pair of q, k and v, or fewer heads than one.
    """

    def __init__(
        self,
        student_tap: str = "blocks.11.attn.qkv",
        teacher_tap: str = "blocks.11.attn.qkv",
        relations: Sequence[str] = ("qq", "kk", "vv"),
        heads: int = 12,
    ) -> None:
        super().__init__()
        if not relations or any(len(r) != 2 or not set(r) <= set(PARTS) for r in relations):
            raise ValueError(f"relations must be pairs such as qq, kk, vv, qk, got {', '.join(relations) or 'none'}")
        if heads < 1:
            raise ValueError(f"heads must be at least 1, got {heads}")
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.relations, self.heads = tuple(relations), heads

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student").shape
        other = find_spec(teacher, self.teacher_tap, "teacher").shape
        told = f"student tap {self.student_tap!r} of shape {mine} and teacher tap {self.teacher_tap!r} of shape {other}"
        if len(mine) != 2 or len(other) != 2 or mine[0] != other[0]:
            raise ValueError(f"{told} must be fused queries, keys and values (L, 3 D) of as many tokens L")
        if mine[1] % (3 * self.heads) or other[1] % (3 * self.heads):
            raise ValueError(f"heads={self.heads} must divide a third of the width of {told}")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        feature = student.features[self.student_tap]
        with torch.autocast(feature.device.type, enabled=False):
            other = require_teacher(teacher).features[self.teacher_tap]
            return minilm(feature, other, self.relations, self.heads)
