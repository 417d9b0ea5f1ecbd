"""CE against loops over samples and classes."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.ce import CE, ce


def oracle(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    total = logits.new_zeros(())
    n, k = logits.shape
    for i in range(n):
        norm = sum(torch.exp(logits[i, c]) for c in range(k))
        for c in range(k):
            share = smoothing / k + (1 - smoothing if c == target[i] else 0.0)
            total = total - share * torch.log(torch.exp(logits[i, c]) / norm)
    return total / n


@pytest.mark.parametrize("shape", [(1, 2), (4, 5), (3, 17)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_ce__value_and_gradient(shape: tuple[int, int], smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(shape, requires_grad=True)
    exact = logits.detach().double().requires_grad_()
    target = torch.randint(shape[1], shape[:1])
    value, expected = ce(logits, target, smoothing), oracle(exact, target, smoothing)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(logits.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


def test_ce__even_logits_give_log_k() -> None:
    assert ce(torch.zeros(3, 10), torch.tensor([0, 4, 9])).item() == pytest.approx(math.log(10))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_init__label_smoothing_out_of_range(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing must be from 0 up to but not including 1, got"):
        CE(smoothing)
