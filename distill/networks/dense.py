"""Dense maps: an embedding of every patch in the space of the texts, by ways that differ in how they end a tower.

CLIP embeds an image by its first token, so what the last block makes of the other tokens was never compared with any
text, and scores of it come out inverted (Li et al. 2023, "CLIP Surgery"). Its value path, without queries and keys, is
what MaskCLIP (Zhou et al. 2022) reads; v-v attention is CLIP Surgery's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VALUE, RESIDUAL, VV, LAST = "dense_value", "dense_value_residual", "dense_vv", "dense_last_hidden"


def value(block: Any, x: Tensor, last: Tensor) -> Tensor:
    """Return values of the last block's attention, projected, without the tokens being mixed.

    Args:
        block: last block of a tower of transformers.
        x: its input ``(N, L, C)``.
        last: its output ``(N, L, C)``.
    """
    attention = block.self_attn
    found: Tensor = attention.out_proj(attention.v_proj(block.layer_norm1(x)))
    return found


def value_residual(block: Any, x: Tensor, last: Tensor) -> Tensor:
    """Return the values with both residual connections and the perceptron of the block, as MaskCLIP's code does."""
    h = x + value(block, x, last)
    found: Tensor = h + block.mlp(block.layer_norm2(h))
    return found


def vv(block: Any, x: Tensor, last: Tensor) -> Tensor:
    """Return values mixed by their own similarity, ``softmax(v v^T / sqrt(d)) v`` in each head, projected."""
    attention = block.self_attn
    found: Tensor = attention.out_proj(vv_mixed(attention.v_proj(block.layer_norm1(x)), attention.num_heads))
    return found


def last_hidden(block: Any, x: Tensor, last: Tensor) -> Tensor:
    """Return the last block's output: what one would take first, and should not; kept for comparison."""
    return last


SOURCES: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    VALUE: value, RESIDUAL: value_residual, VV: vv, LAST: last_hidden,
}  # fmt: skip
"""Ways of a tower that reads an image off its first token."""
POOLED = (VALUE, VV)
"""Ways of a tower that pools its tokens by attention: there the pooling is what ends it."""


def vv_mixed(values: Tensor, heads: int) -> Tensor:
    """Return values ``(N, L, C)`` mixed in each head by their own similarity."""
    split = values.unflatten(-1, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(split, split, split).transpose(1, 2).flatten(2)


def pooled_apart(head: Any, tokens: Tensor, name: str) -> Tensor:
    """Return what an attention pool makes of each token ``(N, L, C)`` alone: with one key, attention gives its value.

    Args:
        head: SigLIP's pool: attention of a learned query, then a perceptron with a residual connection.
        tokens: what it pools ``(N, L, C)``.
        name: ``dense_value``, or ``dense_vv``, where the values are mixed by their own similarity first.
    """
    attention: nn.MultiheadAttention = head.attention
    weight, bias = attention.in_proj_weight, attention.in_proj_bias
    width = attention.embed_dim
    values = F.linear(tokens, weight[2 * width :], None if bias is None else bias[2 * width :])
    if name == VV:
        values = vv_mixed(values, attention.num_heads)
    h = attention.out_proj(values)
    found: Tensor = h + head.mlp(head.layernorm(h))
    return found


def as_grid(tokens: Tensor, height: int, width: int) -> Tensor:
    """Return tokens ``(N, h w, D)`` as a map ``(N, D, h, w)``."""
    return tokens.transpose(1, 2).unflatten(2, (height, width))


def attention_of(attentions: Any) -> Tensor:
    """Return the attention of the last block ``(N, heads, L, L)``.

    Raises:
        ValueError: when the tower gave none.
    """
    found = attentions[-1] if attentions else None
    if not isinstance(found, torch.Tensor):
        raise ValueError(
            "attention: the image tower gave none; load the model with attn_implementation='eager', for the faster "
            "kinds do not keep it"
        )
    return found
