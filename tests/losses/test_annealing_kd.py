"""Annealing KD against loops over samples and classes, and its two phases."""

import pytest
import torch
from torch import Tensor

from distill.assemble import make_objective
from distill.config import compose, resolved
from distill.losses.annealing_kd import AnnealingKD, annealing_kd
from distill.losses.logit_mse import logit_mse
from distill.schedules.base import Progress
from distill.schedules.linear import Linear


def oracle(student: Tensor, teacher: Tensor, temperature: float, tau_max: float) -> Tensor:
    phi = 1 - (temperature - 1) / tau_max
    n, k = student.shape
    return sum((student[i, c] - phi * teacher[i, c]) ** 2 for i in range(n) for c in range(k)) / n


@pytest.mark.parametrize("shape", [(1, 2), (4, 5)])
@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_annealing_kd__value_and_gradient(shape: tuple[int, int], temperature: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), 3 * torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value, expected = (
        annealing_kd(student, teacher, temperature, 10.0),
        oracle(exact, teacher.double(), temperature, 10),
    )
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("turn", range(1, 11))
def test_annealing_kd__strict_reference_is_the_mean_with_a_factor_that_rises(turn: int) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    expected = torch.nn.functional.mse_loss(student, teacher * turn / 10)
    torch.testing.assert_close(annealing_kd(student, teacher, 11 - turn, 10, strict_reference=True), expected)


def test_annealing_kd__ends_as_the_squared_distance_of_logits() -> None:
    student, teacher = torch.randn(4, 7), torch.randn(4, 7)
    torch.testing.assert_close(annealing_kd(student, teacher, 1, 10), 7 * logit_mse(student, teacher))
    assert annealing_kd(0.1 * teacher, teacher, 10, 10).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 11.0, Linear(5.0, 0.9), Linear(12.0, 1.0)])
def test_init__temperature_outside_the_phase(temperature: float | Linear) -> None:
    with pytest.raises(ValueError, match="temperature must stay from 1 to tau_max=10, got"):
        AnnealingKD(temperature, tau_max=10.0)


def test_experiment__two_phases_and_integers() -> None:
    objective = make_objective(resolved(compose(["+experiment=annealing_kd"]))["loss"])
    seen = []
    for epoch in range(300):
        objective.set_progress(Progress(epoch / 299, epoch + 1, 300))
        seen.append((*objective.weights.values(), objective.values["annealing_kd.temperature"]))
    assert [weights[:2] for weights in seen] == [(0, 1)] * 200 + [(1, 0)] * 100
    falling = [temperature for *_, temperature in seen[:200]]
    assert sorted(set(falling), reverse=True) == list(range(10, 0, -1))
    assert all(falling.count(t) in (19, 20, 21) for t in set(falling))
