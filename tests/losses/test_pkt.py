"""PKT against loops over samples and their neighbours."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.pkt import pkt

EPS = 1e-7


def neighbours(x: Tensor, itself: bool) -> list[list[Tensor]]:
    found = []
    for i, a in enumerate(x):
        near = [(1 + (a * b).sum() / (a.norm() * b.norm())) / 2 for b in x]
        total = sum(v for j, v in enumerate(near) if itself or i != j)
        found.append([v / total if itself or i != j else torch.zeros_like(v) for j, v in enumerate(near)])
    return found


def oracle(student: Tensor, teacher: Tensor, itself: bool) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(neighbours(student, itself), neighbours(teacher, itself), strict=True):
        total = total + sum(p * torch.log((p + EPS) / (q + EPS)) for q, p in zip(s, t, strict=True))
    return total / len(student) ** 2


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("size, mine, other", [(2, 3, 5), (5, 4, 4), (9, 16, 6)])
def test_pkt__value_and_gradient(size: int, mine: int, other: int, strict: bool) -> None:
    student, teacher = torch.randn(size, mine, requires_grad=True), torch.randn(size, other)
    exact = student.detach().double().requires_grad_()
    value, expected = pkt(student, teacher, strict), oracle(exact, teacher.double(), strict)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=2e-5, atol=1e-8)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_pkt__by_hand() -> None:
    """Three samples, the first with cosines 0 and 1 to the others, so 1/2 and 1 before they are normalised."""
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    student = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    first = 1 / 3 * math.log(2 / 3) + 2 / 3 * math.log(4 / 3)  # p = (1/3, 2/3), q = (1/2, 1/2); the second has p = q
    assert pkt(student, teacher).item() == pytest.approx(2 * first / 9, rel=1e-5)
    third = 0.4 * math.log(0.4 * 3) * 2 + 0.2 * math.log(0.2 * 3)  # p = (1, 1/2, 1) / 2.5, q = 1/3
    second = 0.25 * math.log(0.25 * 3) * 2 + 0.5 * math.log(0.5 * 3)  # p = (1/2, 1, 1/2) / 2
    assert pkt(student, teacher, strict_reference=True).item() == pytest.approx((2 * third + second) / 9, rel=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_pkt__zero_at_the_teacher_turned_and_each_sample_scaled(strict: bool) -> None:
    teacher = torch.randn(6, 4)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    assert pkt(torch.rand(6, 1) * teacher @ turn, teacher, strict).item() == pytest.approx(0, abs=1e-7)
