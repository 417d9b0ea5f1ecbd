"""What losses over cross-attention share: distributions without zeros, grids that meet, words of two tokenizers.

Masks are shares and finite numbers here, never minus infinity: where both sides have that, ``F.kl_div`` is not a
number, and no mask that is multiplied with it afterwards makes it one.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

TINY = 1e-8
"""Added to every share, for what nobody looks at has no logarithm."""


def shares(attention: Tensor, there: Tensor | None = None) -> Tensor:
    """Return attention ``(..., C)`` with sum 1 over the last dimension and none of it 0, in float32.

    Args:
        attention: not below 0, of any sum; what is below counts as 0.
        there: which of the last dimension count, true or false, broadcast; the rest gets 0. None: all.
    """
    found = attention.float().clamp_min(0)
    if there is not None:
        found = found * there
    found = found / found.sum(-1, keepdim=True).clamp_min(TINY) + TINY
    if there is not None:
        found = found * there
    return found / found.sum(-1, keepdim=True).clamp_min(TINY)


def onto_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return maps ``(..., h, w)`` averaged over the cells of a grid as coarse or coarser; their sums change with it."""
    if tuple(maps.shape[-2:]) == grid:
        return maps
    flat = maps.float().flatten(0, -3)
    return F.adaptive_avg_pool2d(flat, grid).unflatten(0, maps.shape[:-2])


def coarser(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps ``(..., h, w)`` of two networks on one grid, in each direction that of the coarser."""
    grid = (min(one.shape[-2], other.shape[-2]), min(one.shape[-1], other.shape[-1]))
    return onto_grid(one, grid), onto_grid(other, grid)


def membership(words: Tensor, count: int) -> Tensor:
    """Return which tokens each word is made of ``(N, W, L)``, float32 0 or 1.

    Args:
        words: of each token ``(N, L)``, -1 for none.
        count: number of words W that are looked at.
    """
    numbers = torch.arange(count, device=words.device)
    return (words[:, None] == numbers[None, :, None]).float()


def by_word(attention: Tensor, parts: Tensor) -> Tensor:
    """Return the attention of words ``(N, heads, W, ...)``, the mean of their tokens' ``(N, heads, L, ...)``."""
    each = parts / parts.sum(2, keepdim=True).clamp_min(1)
    return torch.einsum("nhl...,nwl->nhw...", attention.float(), each)


def to_word(attention: Tensor, parts: Tensor) -> Tensor:
    """Return the attention to words ``(..., W)``, the sum of that to their tokens ``(N, ..., L)``."""
    return torch.einsum("n...l,nwl->n...w", attention.float(), parts)
