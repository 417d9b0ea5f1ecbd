"""CC against loops over pairs of samples, in the paper's form and in that of RepDistiller."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.cc import CC, cc, kernel
from distill.outputs import Spec


def gauss(a: Tensor, b: Tensor, gamma: float, order: int) -> Tensor:
    cosine = (a * b).sum() / (a.norm() * b.norm())
    return math.exp(-2 * gamma) * sum((2 * gamma * cosine) ** p / math.factorial(p) for p in range(order + 1))


def oracle(student: Tensor, teacher: Tensor, gamma: float, order: int) -> Tensor:
    size = range(len(student))
    gaps = [
        gauss(student[i], student[j], gamma, order) - gauss(teacher[i], teacher[j], gamma, order)
        for i in size
        for j in size
    ]
    return sum(gap**2 for gap in gaps) / len(student) ** 2


def reference(student: Tensor, teacher: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(student) - 1):
        for k in range(student.shape[1]):
            total = total + (student[i, k] - teacher[i, k]).abs() * (student[i + 1, k] - teacher[i + 1, k]).abs()
    return total / (len(student) - 1)


def compare(value: Tensor, expected: Tensor, leaves: list[Tensor], exact: list[Tensor]) -> None:
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-8)
    for leaf, other in zip(leaves, exact, strict=True):
        torch.testing.assert_close(leaf.grad.double(), other.grad, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("size, dim", [(2, 3), (5, 8), (7, 4)])
@pytest.mark.parametrize("gamma, order", [(0.4, 2), (0.4, 1), (1.0, 4)])
def test_cc__value_and_gradient_of_both_embeddings(size: int, dim: int, gamma: float, order: int) -> None:
    leaves = [torch.randn(size, dim, requires_grad=True) for _ in range(2)]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    compare(cc(*leaves, gamma, order), oracle(*exact, gamma, order), leaves, exact)


@pytest.mark.parametrize("size, dim", [(2, 3), (5, 8)])
def test_cc__strict_reference(size: int, dim: int) -> None:
    leaves = [torch.randn(size, dim, requires_grad=True) for _ in range(2)]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    compare(cc(*leaves, strict_reference=True), reference(*exact), leaves, exact)


def test_cc__strict_reference_of_one_sample() -> None:
    assert cc(torch.randn(1, 4), torch.randn(1, 4), strict_reference=True) == 0


def test_kernel__approaches_the_gaussian() -> None:
    x = torch.nn.functional.normalize(torch.randn(5, 3))
    torch.testing.assert_close(kernel(x, 0.4, 12), torch.exp(-0.4 * torch.cdist(x, x).square()))


def test_cc__zero_at_the_teacher_turned_and_scaled() -> None:
    teacher = torch.randn(6, 4)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    assert cc(3 * teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-12)


def test_prepare__map_instead_of_a_vector() -> None:
    message = r"student tap 'stage3' has shape \(3, 4, 4\), teacher tap 'pooled' \(7,\); choose taps after pooling"
    with pytest.raises(ValueError, match=message):
        CC("stage3").prepare({"stage3": Spec((3, 4, 4))}, {"pooled": Spec((7,))})


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"order": 0}, {"gamma": 0.0}])
def test_init__out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="dim and order must be at least 1 and gamma above 0"):
        CC(**wrong)
