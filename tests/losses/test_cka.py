"""CKA against the formulas of its papers, written with sums over samples."""

import pytest
import torch
from torch import Tensor

from distill.losses.cka import cka


def gram(x: Tensor) -> list[list[Tensor]]:
    flat = x.flatten(1)
    return [[sum(a * b for a, b in zip(p, q, strict=True)) for q in flat] for p in flat]


def hsic(k: list[list[Tensor]], other: list[list[Tensor]]) -> Tensor:
    """Return the sum of products of two kernels, each centred by its means of rows, columns and all."""
    n = len(k)

    def centred(m: list[list[Tensor]]) -> list[list[Tensor]]:
        means = [sum(row) / n for row in m]
        return [[m[i][j] - means[i] - means[j] + sum(means) / n for j in range(n)] for i in range(n)]

    one, two = centred(k), centred(other)
    return sum(one[i][j] * two[i][j] for i in range(n) for j in range(n))


def unbiased_hsic(k: list[list[Tensor]], other: list[list[Tensor]]) -> Tensor:
    """Return equation 5 of Song et al. 2012, from kernels without their diagonals."""
    n = len(k)
    a, b = ([[0 * m[i][j] if i == j else m[i][j] for j in range(n)] for i in range(n)] for m in (k, other))
    trace = sum(a[i][j] * b[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, a)) * sum(map(sum, b)) / ((n - 1) * (n - 2))
    chain = sum(a[i][j] * b[j][q] for i in range(n) for j in range(n) for q in range(n))
    return (trace + sums - 2 / (n - 2) * chain) / (n * (n - 3))


def oracle(student: Tensor, teacher: Tensor, unbiased: bool) -> Tensor:
    measure, k, other = unbiased_hsic if unbiased else hsic, gram(student), gram(teacher)
    return 1 - measure(k, other) / torch.sqrt(measure(k, k) * measure(other, other))


SHAPES = [((5, 2, 2, 2), (5, 7)), ((4, 1), (4, 9)), ((7, 3), (7, 2)), ((6, 2, 2), (6, 3))]  # many entries, then few


@pytest.mark.parametrize("mine, other", SHAPES)
@pytest.mark.parametrize("unbiased", [False, True])
def test_cka__value_and_gradient(mine: tuple[int, ...], other: tuple[int, ...], unbiased: bool) -> None:
    torch.manual_seed(0)
    student, teacher = (torch.randn(mine) + 1).requires_grad_(), 3 * torch.randn(other) - 2
    exact = student.detach().double().requires_grad_()
    value, expected = cka(student, teacher, unbiased), oracle(exact, teacher.double(), unbiased)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("samples, unbiased", [(6, False), (40, False), (40, True)])
def test_cka__rotation_scale_and_shift_change_nothing(samples: int, unbiased: bool) -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(samples, 8), torch.randn(samples, 5)
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    moved = 4 * teacher @ rotation + torch.randn(8)
    assert cka(moved, teacher, unbiased).item() == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(cka(student, moved, unbiased), cka(student, teacher, unbiased), rtol=1e-4, atol=1e-5)


def test_cka__random_features_of_many_entries_look_alike_but_to_the_unbiased_estimate() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(16, 2000), torch.randn(16, 2000)
    assert cka(student, teacher) < 0.1
    assert cka(student, teacher, unbiased=True).item() == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_cka__too_few_samples_for_the_unbiased_estimate(samples: int) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(samples, 5), torch.randn(samples, 5)
    assert torch.equal(cka(student, teacher, unbiased=True), cka(student, teacher))


def test_cka__identical_samples_have_no_kernel() -> None:
    student = torch.ones(4, 3, requires_grad=True)
    value = cka(student, torch.randn(4, 3))
    value.backward()
    assert value == 1
    assert student.grad.abs().sum() == 0
