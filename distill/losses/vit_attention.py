"""ViT attention transfer: match the attention of several layers, head by head.

Li et al., "On the Surprising Effectiveness of Attention Transfer for Vision Transformers", NeurIPS 2024
(arXiv:2411.09702), attention distillation: ``sum_l mean KL(A_t || A_s)`` of the attention A in each query row, over
rows, heads and the batch; the paper's cross-entropy less the teacher's entropy, a constant, so it is 0 at the teacher.

Known to go wrong: the paper's student has the teacher's heads; where the numbers differ the means over the heads are
compared here. The tap is the fused ``qkv`` layer of timm's ViT, before the norms of queries and keys that some of its
models have. Both networks must cut the image into as many tokens.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, find_spec, require_teacher
from distill.losses.minilm import relation
from distill.outputs import Batch, Outputs, Specs


def vit_attention(student: Tensor, teacher: Tensor, student_heads: int, teacher_heads: int) -> Tensor:
    """Return the KL divergence from the teacher's to the student's attention, averaged over rows and heads.

    Args:
        student: queries, keys and values ``(N, L, 3 D)``.
        teacher: the same of another width ``(N, L, 3 E)``; receives no gradient.
        student_heads: attention heads of the student, a divisor of D.
        teacher_heads: attention heads of the teacher, a divisor of E.
    """
    log_s = relation(student, "qk", student_heads)
    log_t = relation(teacher.detach(), "qk", teacher_heads)
    if student_heads != teacher_heads:
        log_s, log_t = (log.logsumexp(1) - math.log(log.shape[1]) for log in (log_s, log_t))
    return F.kl_div(log_s, log_t, reduction="none", log_target=True).sum(-1).mean()


class ViTAttention(Loss):
    """Attention of pairs of layers.

    Args:
        student_taps: names of the student's fused query-key-value layers.
        teacher_taps: names of the teacher's, one for each of the student's.
        student_heads: attention heads of the student.
        teacher_heads: attention heads of the teacher.

    Raises:
        ValueError: when the numbers of taps differ or are 0, or a number of heads is below 1.
    """

    def __init__(
        self,
        student_taps: Sequence[str] = ("blocks.2.attn.qkv", "blocks.5.attn.qkv", "blocks.8.attn.qkv"),
        teacher_taps: Sequence[str] = ("blocks.2.attn.qkv", "blocks.5.attn.qkv", "blocks.8.attn.qkv"),
        student_heads: int = 3,
        teacher_heads: int = 6,
    ) -> None:
        super().__init__()
        if len(student_taps) != len(teacher_taps) or not student_taps:
            raise ValueError(
                f"student_taps and teacher_taps pair up, got {len(student_taps)} and {len(teacher_taps)}; name as many"
            )
        if min(student_heads, teacher_heads) < 1:
            raise ValueError(f"heads must be at least 1, got {student_heads} and {teacher_heads}")
        self.pairs = tuple(zip(student_taps, teacher_taps, strict=True))
        self.student_heads, self.teacher_heads = student_heads, teacher_heads

    def student_taps(self) -> tuple[str, ...]:
        return tuple(mine for mine, _ in self.pairs)

    def teacher_taps(self) -> tuple[str, ...]:
        return tuple(other for _, other in self.pairs)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        found = [
            (find_spec(student, a, "student").shape, find_spec(teacher, b, "teacher").shape) for a, b in self.pairs
        ]
        pairs = zip(self.pairs, found, strict=True)
        told = ", ".join(
            f"student tap {a!r} of shape {s} and teacher tap {b!r} of shape {t}" for (a, b), (s, t) in pairs
        )
        for mine, other in found:
            if len(mine) != 2 or len(other) != 2 or mine[0] != other[0]:
                raise ValueError(f"{told}: both must be fused queries, keys and values (L, 3 D) of as many tokens L")
            if mine[1] % (3 * self.student_heads) or other[1] % (3 * self.teacher_heads):
                raise ValueError(
                    f"student_heads={self.student_heads} and teacher_heads={self.teacher_heads} must divide a third of "
                    f"the width of {told}"
                )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        with torch.autocast(student.logits.device.type, enabled=False):
            values = [
                vit_attention(student.features[mine], teacher.features[other], self.student_heads, self.teacher_heads)
                for mine, other in self.pairs
            ]
            return torch.stack(values).sum()
