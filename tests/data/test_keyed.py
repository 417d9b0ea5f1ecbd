"""Keyed randomness against splitmix64 in Python integers."""

import math

import pytest
import torch

from distill.data.keyed import mix, permutation, uniform, uniforms

MASK = 2**64 - 1


def splitmix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def test_mix__equals_splitmix64_in_integers() -> None:
    values = [0, 1, -1, 12345, 2**62, -(2**63), 2**63 - 1]
    assert mix(torch.tensor(values)).tolist() == [signed(splitmix(v & MASK)) for v in values]
    assert splitmix(0) == 0xE220A8397B1DCDAF  # first output of the published generator, seed 0


@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**64 + 3, -5])
def test_uniform__equals_integer_arithmetic(seed: int) -> None:
    view, index = torch.tensor([0, 3, 3, 239]), torch.tensor([0, 0, 9, 49_999])
    key = splitmix((seed * 256 + 2) & MASK)
    expected = [
        (splitmix(splitmix(key ^ v) ^ i) >> 11) / 2**53 for v, i in zip(view.tolist(), index.tolist(), strict=True)
    ]
    assert uniform(seed, view, index, 2).tolist() == expected
    assert uniforms(seed, view, index, [0, 2])[1].tolist() == expected


def test_uniform__does_not_depend_on_the_batch() -> None:
    index = torch.arange(100)
    view = torch.full_like(index, 5)
    whole = uniform(1, view, index, 0)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(1, view[order], index[order], 0), whole[order])
    assert torch.equal(uniform(1, view[7:8], index[7:8], 0), whole[7:8])


def test_uniform__streams_views_and_neighbours_are_independent() -> None:
    index = torch.arange(20_000)
    zero, one = torch.zeros_like(index), torch.ones_like(index)
    a = uniform(0, zero, index, 0)
    others = [uniform(0, zero, index, 1), uniform(0, one, index, 0), uniform(1, zero, index, 0), a.roll(1)]
    assert abs(a.mean().item() - 0.5) < 4 / math.sqrt(12 * 20_000)
    for b in others:
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 4 / math.sqrt(20_000)


def test_uniforms__reach_every_value_evenly() -> None:
    index = torch.arange(90_000)
    counts = torch.bincount((uniform(0, torch.zeros_like(index), index, 0) * 9).long(), minlength=9).double()
    chi = ((counts - 10_000) ** 2 / 10_000).sum().item()
    assert len(counts) == 9
    assert chi < 26.1  # 0.1 % of chi-square with 8 degrees of freedom


def test_permutation__has_every_sample_once_and_depends_on_seed_and_epoch() -> None:
    orders = [permutation(1000, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert len({tuple(o.tolist()) for o in orders}) == 4
    assert torch.equal(permutation(1000, 0, 1), orders[1])
