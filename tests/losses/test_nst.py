"""NST against loops over pairs of channels, in both of its Gram forms."""

import pytest
import torch
from torch import Tensor

from distill.losses.nst import nst


def units(sample: Tensor) -> list[Tensor]:
    return [channel.flatten() / torch.sqrt((channel**2).sum()) for channel in sample]


def kernel_mean(a: list[Tensor], b: list[Tensor]) -> Tensor:
    return sum(sum(x * y for x, y in zip(p, q, strict=True)) ** 2 for p in a for q in b) / (len(a) * len(b))


def oracle(student: Tensor, teacher: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in zip(student, teacher, strict=True):
        s, t = units(mine), units(other)
        total = total + kernel_mean(s, s) + kernel_mean(t, t) - 2 * kernel_mean(s, t)
    return total / len(student)


# more positions than channels, fewer, and one position
@pytest.mark.parametrize("mine, other, size", [(2, 3, (3, 4)), (5, 6, (2, 2)), (3, 2, (1, 1)), (1, 7, (2, 3))])
def test_nst__value_and_gradient(mine: int, other: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, mine, *size, requires_grad=True), torch.randn(2, other, *size)
    exact = student.detach().double().requires_grad_()
    value, expected = nst(student, teacher), oracle(exact, teacher.double())
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels, size", [(3, 4), (12, 2)])
def test_nst__sees_neither_scale_nor_number_nor_order_of_channels(channels: int, size: int) -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, channels, size, size)
    scales = torch.tensor([0.1, 7.0, 2.0]).repeat(channels // 3)[:, None, None]
    student = (teacher * scales).flip(1).repeat(1, 2, 1, 1)
    assert nst(student, teacher).item() == pytest.approx(0, abs=1e-6)
    assert nst(torch.randn_like(teacher), teacher) > 1e-3


def test_nst__larger_maps_are_averaged() -> None:
    torch.manual_seed(0)
    large, small = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    torch.testing.assert_close(nst(large, small), nst(large.view(2, 3, 2, 2, 2, 2).mean((3, 5)), small))
