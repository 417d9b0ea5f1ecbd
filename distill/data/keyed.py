"""Counter-based randomness: every draw is a function of (seed, view, index, stream), on any device, in any order."""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN, _MIX1, _MIX2 = -7046029254386353131, -4658895280553007687, -7723592293110705685  # of splitmix64, as int64
_ORDER_STREAM = 255  # of the order of an epoch; streams of samples count up from 0


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # int64 shifts keep the sign; the mask makes them logical


def mix(x: Tensor) -> Tensor:
    """Return the splitmix64 finaliser of int64 values: a bijection; each output bit depends on every input bit.

    Source: Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators.
    """
    x = x + _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    return x ^ _shift(x, 31)


def _key(seed: int, stream: int, device: torch.device) -> Tensor:
    wrapped = (seed * 256 + stream + 2**63) % 2**64 - 2**63
    return mix(torch.tensor(wrapped, dtype=torch.int64, device=device))


def uniform(seed: int, view: Tensor, index: Tensor, stream: int) -> Tensor:
    """Return float64 numbers in [0, 1), one for each (view, index).

    Args:
        seed: the run's seed.
        view: view numbers ``(N,)``, int64.
        index: sample numbers ``(N,)``, int64.
        stream: which of the independent numbers of a sample, 0 to 254, such as 0 for the row of a crop.
    """
    bits = mix(mix(_key(seed, stream, index.device) ^ view) ^ index)
    return _shift(bits, 11).double() * 2.0**-53


def integers(seed: int, view: Tensor, index: Tensor, stream: int, high: int | Tensor) -> Tensor:
    """Return int64 numbers in [0, high), one for each (view, index); the other arguments as in :func:`uniform`."""
    return (uniform(seed, view, index, stream) * high).long()


def permutation(size: int, seed: int, epoch: int) -> Tensor:
    """Return the order ``(size,)`` of the samples in an epoch, int64."""
    index = torch.arange(size)
    epoch_key = mix(_key(seed, _ORDER_STREAM, index.device) ^ epoch)
    return mix(epoch_key ^ index).argsort(stable=True)
