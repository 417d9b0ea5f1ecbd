"""CE against loops over samples and classes."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.ce import CE, ce
from distill.outputs import Batch, Mix, Outputs, TrainingSet


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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ce__of_mixed_images_weighs_both_classes(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 5, requires_grad=True)
    exact = logits.detach().double().requires_grad_()
    target, other = torch.randint(5, (2, 6)).unbind()
    share = torch.tensor([0.0, 1.0, 0.5, 0.25, 0.9, 0.3])
    batch = Batch(torch.zeros(6, 1, 2, 2), target, target, target, Mix(other, share))
    value = CE(smoothing)(Outputs(logits), None, batch)
    rows = [
        s * oracle(exact[i : i + 1], target[i : i + 1], smoothing)
        + (1 - s) * oracle(exact[i : i + 1], other[i : i + 1], smoothing)
        for i, s in enumerate(share.tolist())
    ]
    expected = torch.stack(rows).mean()
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


def test_ce__of_the_labelled_alone() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(6, 5), torch.arange(6) % 5
    labelled = torch.tensor([True, False, False, True, True, False])
    expected = oracle(logits[labelled].double(), target[labelled], 0.1) * 3 / 6
    torch.testing.assert_close(ce(logits, target, 0.1, labelled=labelled).double(), expected, rtol=1e-6, atol=1e-7)
    assert ce(logits, target, labelled=torch.zeros(6, dtype=torch.bool)).item() == 0


def test_meet__labels_the_same_share_of_each_class() -> None:
    target = torch.arange(200) % 4
    loss = CE(labelled=0.1)
    loss.meet(TrainingSet(target, 4))
    assert loss.known is not None
    assert torch.bincount(target[loss.known]).tolist() == [5, 5, 5, 5]
    other = CE(labelled=0.1)
    other.meet(TrainingSet(target, 4))
    assert torch.equal(loss.known, other.known)
    index = loss.known.nonzero()[:3, 0]
    batch = Batch(torch.zeros(4, 1, 2, 2), target[:4], torch.cat([index, (~loss.known).nonzero()[:1, 0]]), target[:4])
    logits = torch.randn(4, 4)
    torch.testing.assert_close(loss(Outputs(logits), None, batch), ce(logits[:3], batch.target[:3]) * 3 / 4)


@pytest.mark.parametrize("labelled", [0.0, 1.5, -0.1])
def test_ce__refuses_no_labels(labelled: float) -> None:
    with pytest.raises(ValueError, match="labelled must be above 0 and at most 1"):
        CE(labelled=labelled)


def test_meet__refuses_a_share_of_nobody() -> None:
    with pytest.raises(ValueError, match="labelled=0.001 of 100 training images leaves none; raise it"):
        CE(labelled=0.001).meet(TrainingSet(torch.arange(100) % 4, 4))
