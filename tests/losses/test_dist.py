"""DIST against loops over samples and classes, and its invariances."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.dist import DIST, dist, pearson


def correlation(a: list[Tensor], b: list[Tensor]) -> Tensor:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    top = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return top / (torch.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)) + 1e-8)


def oracle(student: Tensor, teacher: Tensor, temperature: float, beta: float, gamma: float) -> Tensor:
    rows = []
    for z in (student / temperature, teacher / temperature):
        rows.append([[torch.exp(v) / sum(torch.exp(w) for w in row) for v in row] for row in z])
    columns = [[list(column) for column in zip(*matrix, strict=True)] for matrix in rows]
    inter = 1 - sum(correlation(a, b) for a, b in zip(*rows, strict=True)) / len(rows[0])
    intra = 1 - sum(correlation(a, b) for a, b in zip(*columns, strict=True)) / len(columns[0])
    return temperature**2 * (beta * inter + gamma * intra)


@pytest.mark.parametrize("shape", [(2, 3), (4, 5), (6, 11)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("beta, gamma", [(1.0, 1.0), (2.0, 0.0), (0.0, 0.5)])
def test_dist__value_and_gradient(shape: tuple[int, int], temperature: float, beta: float, gamma: float) -> None:
    torch.manual_seed(0)
    student, teacher = 2 * torch.randn(shape), 3 * torch.randn(shape)
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    value = dist(student, teacher, temperature, beta, gamma)
    expected = oracle(exact, teacher.double(), temperature, beta, gamma)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


def test_dist__zero_at_the_teacher() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(5, 7)
    assert dist(teacher, teacher, 4.0, 1.0, 1.0).item() == pytest.approx(0, abs=1e-4)


def test_dist__ignores_positive_affine_maps_of_each_row_of_probabilities() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(5, 4).softmax(1)
    # a p + (1 - a) / K is again a distribution, with the same correlation over classes
    student = 0.3 * teacher + 0.7 / 4
    assert dist(student.log(), teacher.log(), 1.0, beta=1.0, gamma=0.0).item() == pytest.approx(0, abs=1e-5)
    assert dist(student.log(), teacher.log(), 1.0, beta=0.0, gamma=1.0).item() == pytest.approx(0, abs=1e-5)
    rows = torch.tensor([[0.1], [0.3], [0.5], [0.7], [0.9]])
    uneven = rows * teacher + (1 - rows) / 4
    assert dist(uneven.log(), teacher.log(), 1.0, beta=1.0, gamma=0.0).item() == pytest.approx(0, abs=1e-5)
    assert dist(uneven.log(), teacher.log(), 1.0, beta=0.0, gamma=1.0).item() > 0.01


def test_dist__opposite_order_is_the_worst() -> None:
    teacher = torch.tensor([[0.1, 0.3, 0.6], [0.2, 0.2, 0.6]])
    student = 2 / 3 - teacher
    assert dist(student.log(), teacher.log(), 1.0, beta=1.0, gamma=0.0).item() == pytest.approx(2, abs=1e-5)


def test_dist__single_sample_has_one_for_the_columns() -> None:
    assert dist(torch.randn(1, 5), torch.randn(1, 5), 2.0, beta=0.0, gamma=1.0).item() == 4.0


def test_dist__t2_is_a_factor() -> None:
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    torch.testing.assert_close(dist(student, teacher, 3.0, 1, 2), 9 * dist(student, teacher, 3.0, 1, 2, t2=False))


@pytest.mark.parametrize("dim", [0, 1])
def test_pearson__positive_affine_maps(dim: int) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(5, 6), torch.randn(5, 6)
    torch.testing.assert_close(pearson(3 * a + 2, 0.5 * b - 1, dim), pearson(a, b, dim), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pearson(-a, b, dim), -pearson(a, b, dim))


def test_pearson__constant_is_uncorrelated() -> None:
    assert pearson(torch.ones(3, 4), torch.randn(3, 4), 1).tolist() == [0, 0, 0]


@pytest.mark.parametrize("temperature", [0.0, -2.0, math.nan])
def test_init__temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        DIST(temperature=temperature)
