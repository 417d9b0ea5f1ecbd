"""TTM and WTTM against loops over powers of probabilities, and how both relate to KD."""

import pytest
import torch
from torch import Tensor

from distill.losses.kd import kd
from distill.losses.ttm import ttm
from distill.losses.wttm import wttm

from .naive import SHAPES, check, rows


def oracle(student: Tensor, teacher: Tensor, gamma: float, weighted: bool) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for p, q in zip(rows(teacher), rows(student), strict=True):
        powers = [a**gamma for a in p]
        u = sum(powers)
        divergence = sum(a / u * torch.log(a / u / b) for a, b in zip(powers, q, strict=True))
        total = total + (u if weighted else 1) * divergence
    return total / len(student)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_ttm__value_and_gradient(shape: tuple[int, int], gamma: float, weighted: bool) -> None:
    loss = wttm if weighted else ttm
    check(lambda s, t, _: loss(s, t, 1 / gamma), lambda s, t, _: oracle(s, t, gamma, weighted), shape)


@pytest.mark.parametrize("loss", [ttm, wttm])
def test_ttm__is_kd_at_temperature_1(loss) -> None:
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    torch.testing.assert_close(loss(student, teacher, 1.0), kd(student, teacher, 1.0))


@pytest.mark.parametrize("loss", [ttm, wttm])
def test_ttm__zero_at_the_transformed_teacher(loss) -> None:
    teacher = 3 * torch.randn(4, 6)
    assert loss(teacher / 5 + 2, teacher, 5.0).item() == pytest.approx(0, abs=1e-5)


def test_wttm__weights_from_1_to_a_power_of_the_number_of_classes() -> None:
    student, sure, even = torch.randn(1, 5), torch.tensor([[1e4, 0, 0, 0, 0]]), torch.zeros(1, 5)
    torch.testing.assert_close(wttm(student, sure, 10.0), ttm(student, sure, 10.0))
    torch.testing.assert_close(wttm(student, even, 10.0), 5**0.9 * ttm(student, even, 10.0))


@pytest.mark.parametrize("loss", [ttm, wttm])
def test_ttm__of_a_pair_of_temperatures_the_teachers_counts(loss) -> None:
    student, teacher, t = torch.randn(2, 6), torch.randn(2, 6), torch.tensor([2.0, 5.0])
    apart = [loss(student[i : i + 1], teacher[i : i + 1], t[i].item()) for i in range(2)]
    torch.testing.assert_close(loss(student, teacher, (torch.ones(2), t)), sum(apart) / 2)
    torch.testing.assert_close(loss(student, teacher, t), sum(apart) / 2)
