"""LogitMSE against a loop."""

import pytest
import torch

from distill.losses.logit_mse import logit_mse


@pytest.mark.parametrize("shape", [(1, 2), (4, 5), (3, 17)])
def test_logit_mse__value_and_gradient(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    value = logit_mse(student, teacher)
    value.backward()
    n, k = shape
    difference = (student - teacher).detach().double()
    total = sum(difference[i, c].item() ** 2 for i in range(n) for c in range(k))
    assert value.item() == pytest.approx(total / (n * k), rel=1e-6)
    torch.testing.assert_close(student.grad.double(), 2 * difference / (n * k), rtol=1e-5, atol=1e-7)


def test_logit_mse__zero_at_the_teacher() -> None:
    logits = torch.randn(4, 5)
    assert logit_mse(logits, logits) == 0


def test_logit_mse__sees_a_constant_added_to_a_row() -> None:
    logits = torch.randn(4, 5)
    assert logit_mse(logits + 2, logits).item() == pytest.approx(4, rel=1e-5)
