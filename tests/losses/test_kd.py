"""KD against loops over samples and classes, and against what is known of it."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.ce import ce
from distill.losses.kd import KD, kd
from distill.losses.logit_mse import logit_mse
from distill.schedules.linear import Linear

from .settings import SETTINGS, example

KD_SETTING = next(s for s in SETTINGS if s.name == "kd")


def oracle(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    total = student.new_zeros(())
    n, k = student.shape
    for i in range(n):
        norm_s = sum(torch.exp(student[i, c] / temperature) for c in range(k))
        norm_t = sum(torch.exp(teacher[i, c] / temperature) for c in range(k))
        for c in range(k):
            p_s = torch.exp(student[i, c] / temperature) / norm_s
            p_t = torch.exp(teacher[i, c] / temperature) / norm_t
            total = total + p_t * (torch.log(p_t) - torch.log(p_s))
    return temperature**2 * total / n


@pytest.mark.parametrize("shape", [(1, 2), (4, 5), (3, 17)])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0, 20.0])
def test_kd__value_and_gradient(shape: tuple[int, int], temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), 3 * torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value, expected = kd(student, teacher, temperature), oracle(exact, teacher.double(), temperature)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_kd__known_scalar() -> None:
    # p_t = sigmoid(1); 16 * (ln 2 - entropy of p_t), worked out by hand
    assert kd(torch.zeros(1, 2), torch.tensor([[4.0, 0.0]]), 4.0).item() == pytest.approx(1.77511, abs=1e-5)


def test_kd__zero_with_zero_gradient_at_the_teacher() -> None:
    teacher = torch.randn(4, 7)
    student = teacher.clone().requires_grad_()
    value = kd(student, teacher, 3.0)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


def test_kd__ignores_a_constant_added_to_a_row() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    moved = kd(student + torch.randn(4, 1), teacher + torch.randn(4, 1), 2.0)
    torch.testing.assert_close(moved, kd(student, teacher, 2.0))


def test_kd__is_not_negative() -> None:
    torch.manual_seed(0)
    assert all(kd(torch.randn(3, 9), torch.randn(3, 9), t) > 0 for t in (0.5, 1.0, 8.0))


def test_kd__certain_teacher_is_cross_entropy() -> None:
    student, target = torch.randn(4, 7), torch.tensor([0, 6, 2, 2])
    teacher = 1e4 * torch.nn.functional.one_hot(target, 7).float()
    torch.testing.assert_close(kd(student, teacher, 1.0), ce(student, target))


def test_kd__high_temperature_is_half_the_squared_difference_of_centred_logits() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 7)
    centred = [z - z.mean(1, keepdim=True) for z in (student, teacher)]
    torch.testing.assert_close(kd(student, teacher, 100.0), logit_mse(*centred) / 2, rtol=0.05, atol=0)


def test_kd__t2_is_a_factor() -> None:
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    torch.testing.assert_close(kd(student, teacher, 3.0), 9 * kd(student, teacher, 3.0, t2=False))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, Linear(5.0, 0.0), Linear(4.0, -1.0, until=0.3)])
def test_init__temperature_that_is_or_becomes_zero(temperature: float | Linear) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got"):
        KD(temperature)


def test_forward__schedule_that_nobody_moved() -> None:
    with pytest.raises(TypeError, match="Linear has no value yet; put the loss in an Objective"):
        KD(Linear(5.0, 1.0))(*example(KD_SETTING))
