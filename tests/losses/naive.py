"""Softmax by hand, one sample and class at a time in float64, and what compares a loss with such an oracle."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

SHAPES = [(1, 2), (4, 5), (3, 17)]


def rows(logits: Tensor, temperature: float = 1.0) -> list[list[Tensor]]:
    """Return the probabilities of each sample and class."""
    powers = [[torch.exp(z / temperature) for z in row] for row in logits]
    return [[p / sum(row) for p in row] for row in powers]


def check(value: Callable[[Tensor, Tensor, Tensor], Tensor], oracle: Callable[..., Tensor], shape: tuple) -> None:
    """Compare value and gradient of a loss of (student, teacher, target) with its oracle in float64."""
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), 3 * torch.randn(shape)
    target = torch.randint(shape[1], shape[:1])
    exact = student.detach().double().requires_grad_()
    found, expected = value(student, teacher, target), oracle(exact, teacher.double(), target.tolist())
    found.backward()
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=2e-6)
