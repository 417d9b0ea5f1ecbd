"""Counter-based randomness: every draw is a function of (seed, view, index, stream), on any device, in any order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of splitmix64
_WRAP = 2**64
_ORDER_STREAM = 255  # of the order of an epoch; streams of samples count up from 0


def _signed(x: int) -> int:
    return (x + _WRAP // 2) % _WRAP - _WRAP // 2


def _fold(x: Tensor, bits: int) -> Tensor:
    # int64 shifts keep the sign; the mask makes them logical
    return x.bitwise_xor_((x >> bits).bitwise_and_((1 << (64 - bits)) - 1))


def mix(x: Tensor) -> Tensor:
    """Return the splitmix64 finaliser of int64 values: a bijection; each output bit depends on every input bit.

    Source: Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators.
    """
    x = x + _signed(_GOLDEN)
    x = _fold(x, 30).mul_(_signed(_MIX1))
    x = _fold(x, 27).mul_(_signed(_MIX2))
    return _fold(x, 31)


def _key(seed: int, stream: int) -> int:
    """Return what :func:`mix` makes of seed and stream, in Python integers: a number needs no kernel."""
    x = (seed * 256 + stream + _GOLDEN) % _WRAP
    x = (x ^ x >> 30) * _MIX1 % _WRAP
    x = (x ^ x >> 27) * _MIX2 % _WRAP
    return _signed(x ^ x >> 31)


def uniforms(seed: int, view: Tensor, index: Tensor, streams: Sequence[int]) -> Tensor:
    """Return float64 numbers in [0, 1), a row for each stream and a column for each (view, index).

    Args:
        seed: the run's seed.
        view: view numbers ``(N,)``, int64.
        index: sample numbers ``(N,)``, int64.
        streams: which of the independent numbers of a sample, 0 to 254, such as 0 for the row of a crop.
    """
    keys = torch.tensor([[_key(seed, stream)] for stream in streams], dtype=torch.int64, device=index.device)
    bits = mix(mix(keys ^ view) ^ index)
    return (bits >> 11).bitwise_and_((1 << 53) - 1).double().mul_(2.0**-53)


def uniform(seed: int, view: Tensor, index: Tensor, stream: int) -> Tensor:
    """Return float64 numbers in [0, 1), one for each (view, index); arguments as in :func:`uniforms`."""
    return uniforms(seed, view, index, (stream,))[0]


def permutation(size: int, seed: int, epoch: int) -> Tensor:
    """Return the order ``(size,)`` of the samples in an epoch, int64."""
    epoch_key = mix(torch.tensor(_key(seed, _ORDER_STREAM)) ^ epoch)
    return mix(epoch_key ^ torch.arange(size)).argsort(stable=True)
