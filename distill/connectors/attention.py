"""Cross-attention: each position of the teacher's feature asks all positions of the student's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.connectors.forms import channels, form_of
from distill.outputs import Spec

HEADS = (8, 4, 2, 1)
"""Numbers of heads, the first of which that divides the teacher's channels is taken."""
SPREAD = 0.02  # standard deviation of learned positions, as ViT starts them


class CrossAttention(nn.Module):
    """Learned queries, one for each position of the teacher, over the student's positions; any form to any form.

    Args:
        source: shape of the student's feature.
        target: shape of the teacher's.
    """

    def __init__(self, source: Spec, target: Spec) -> None:
        super().__init__()
        self.shape = target.shape
        inputs, width = channels(source), channels(target)
        heads = next(n for n in HEADS if width % n == 0)
        self.queries = nn.Parameter(SPREAD * torch.randn(_positions(target), width))
        self.places = nn.Parameter(SPREAD * torch.randn(_positions(source), inputs))
        self.attention = nn.MultiheadAttention(width, heads, kdim=inputs, vdim=inputs, batch_first=True)

    def forward(self, feature: Tensor) -> Tensor:
        """Return ``(N, *shape of the teacher)`` of a feature ``(N, *shape of the student)``."""
        if feature.dim() == 2:
            feature = feature[:, None]
        tokens = feature.flatten(2).transpose(1, 2) if feature.dim() == 4 else feature
        tokens = tokens + self.places
        queries = self.queries.expand(len(tokens), -1, -1)
        found = self.attention(queries, tokens, tokens, need_weights=False)[0]
        if len(self.shape) == 3:
            found = found.transpose(1, 2)
        return found.reshape(len(tokens), *self.shape)


def cross_attention(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return a cross-attention from any of the forms to any other, or None for what has none of them."""
    if "other" in (form_of(student), form_of(teacher)):
        return None
    return CrossAttention(student, teacher)


def _positions(spec: Spec) -> int:
    if len(spec.shape) == 3:
        return spec.shape[1] * spec.shape[2]
    return spec.shape[0] if len(spec.shape) == 2 else 1
