"""AT against loops over samples, channels and positions."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.at import AT, at, attention
from distill.losses.paired import same_size
from distill.outputs import Spec


def attention_of(sample: Tensor, power: float) -> list[Tensor]:
    channels, height, width = sample.shape
    maps = [sum(abs(sample[c, i, j]) ** power for c in range(channels)) for i in range(height) for j in range(width)]
    length = torch.sqrt(sum(v**2 for v in maps))
    return [v / length for v in maps]


def oracle(student: Tensor, teacher: Tensor, power: float, strict_reference: bool) -> Tensor:
    total, positions = torch.zeros((), dtype=torch.float64), student.shape[2] * student.shape[3]
    for mine, other in zip(student, teacher, strict=True):
        pairs = zip(attention_of(mine, power), attention_of(other, power), strict=True)
        squared = sum((a - b) ** 2 for a, b in pairs)
        total = total + (squared if strict_reference else torch.sqrt(squared) / 2) / positions
    return total / len(student)


@pytest.mark.parametrize("shape, channels", [((2, 3, 4, 4), 5), ((1, 2, 2, 3), 2), ((3, 1, 3, 1), 4)])
@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("strict_reference", [False, True])
def test_at__value_and_gradient(
    shape: tuple[int, int, int, int], channels: int, power: float, strict_reference: bool
) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape[0], channels, *shape[2:])
    exact = student.detach().double().requires_grad_()
    value = at(student, teacher, power, strict_reference)
    expected = oracle(exact, teacher.double(), power, strict_reference)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strict_reference", [False, True])
def test_at__sees_neither_scale_nor_sign_nor_order_of_channels(strict_reference: bool) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    plain = at(student, teacher, 2.0, strict_reference)
    other = at(-7 * student.flip(1), 0.1 * teacher.repeat(1, 2, 1, 1), 2.0, strict_reference)
    torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-7)
    assert at(2 * teacher, teacher, 2.0, strict_reference).item() == pytest.approx(0, abs=1e-7)


def test_at__hand_made_maps() -> None:
    # energy at one corner and at the opposite: two orthogonal unit maps, sqrt(2) apart, over four positions
    student, teacher = torch.zeros(1, 1, 2, 2), torch.zeros(1, 3, 2, 2)
    student[0, 0, 0, 0], teacher[0, 2, 1, 1] = 3.0, -5.0
    assert at(student, teacher, 2.0).item() == pytest.approx(math.sqrt(2) / 2 / 4)
    assert at(student, teacher, 2.0, strict_reference=True).item() == pytest.approx(2 / 4)


def test_at__larger_maps_are_averaged() -> None:
    torch.manual_seed(0)
    large, small = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 2, 3)
    halved = large.view(2, 3, 2, 2, 3, 2).mean((3, 5))
    torch.testing.assert_close(at(large, small, 2.0), at(halved, small, 2.0))
    torch.testing.assert_close(at(small, large, 2.0), at(small, halved, 2.0))


def test_same_size__each_side_to_the_smaller() -> None:
    a, b = same_size(torch.randn(2, 3, 8, 2), torch.randn(2, 5, 4, 4))
    assert a.shape == (2, 3, 4, 2)
    assert b.shape == (2, 5, 4, 2)
    a = torch.randn(2, 3, 4, 4)
    assert same_size(a, torch.randn(2, 5, 4, 4))[0] is a


def test_attention__map_of_zeros() -> None:
    assert attention(torch.zeros(2, 3, 4, 4), 2.0).tolist() == [[0.0] * 16] * 2


@pytest.mark.parametrize("power", [0.0, 0.5, math.nan])
def test_init__power(power: float) -> None:
    with pytest.raises(ValueError, match="power must be at least 1, got"):
        AT(power=power)


@pytest.mark.parametrize("mine, other", [([], []), (["a"], ["a", "b"])])
def test_init__lists_of_taps(mine: list[str], other: list[str]) -> None:
    with pytest.raises(ValueError, match="must have the same number of names, at least one"):
        AT(mine, other)


def test_prepare__vector() -> None:
    with pytest.raises(ValueError, match=r"student tap 'pooled' of shape \(8,\).* reads maps"):
        AT(["pooled"], ["a"]).prepare({"pooled": Spec((8,))}, {"a": Spec((3, 4, 4))})
