"""VID against loops over the entries, and the Gaussian that it is the likelihood of."""

import math

import pytest
import torch
from torch import Tensor, nn

from distill.losses.vid import VID, vid
from distill.outputs import Batch, Outputs, Spec


def oracle(mean: Tensor, teacher: Tensor, variance: Tensor) -> Tensor:
    channels = 1 if mean.dim() == 4 else mean.dim() - 1
    rows = (x.movedim(channels, 0).flatten(1) for x in (mean, teacher))
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, goal, v in zip(*rows, variance, strict=True):
        for m, t in zip(row, goal, strict=True):
            total, count = total + (m - t) ** 2 / (2 * v) + torch.log(v) / 2, count + 1
    return total / count


@pytest.mark.parametrize("shape", [(2, 3, 2, 4), (3, 5), (2, 4, 3)])
def test_vid__value_and_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    channels = shape[1] if len(shape) == 4 else shape[-1]
    mean, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    variance = (torch.rand(channels) + 0.1).requires_grad_()
    exact = [x.detach().double().requires_grad_() for x in (mean, variance)]
    value, expected = vid(mean, teacher, variance), oracle(exact[0], teacher.double(), exact[1])
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    for found, goal in zip((mean, variance), exact, strict=True):
        torch.testing.assert_close(found.grad.double(), goal.grad, rtol=1e-4, atol=1e-7)


def test_vid__is_the_likelihood_of_a_gaussian_up_to_its_constant() -> None:
    torch.manual_seed(0)
    mean, teacher, variance = torch.randn(4, 3), torch.randn(4, 3), torch.rand(3) + 0.1
    likelihood = torch.distributions.Normal(mean, variance.sqrt()).log_prob(teacher).mean()
    torch.testing.assert_close(vid(mean, teacher, variance), -likelihood - math.log(2 * math.pi) / 2)


def prepared(mine: tuple[int, ...], other: tuple[int, ...], train_variance: bool = True) -> VID:
    torch.manual_seed(0)
    loss = VID(["a"], ["b"], train_variance=train_variance)
    loss.prepare({"a": Spec(mine)}, {"b": Spec(other)})
    return loss


def batch() -> Batch:
    zero = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), zero, zero, zero)


@pytest.mark.parametrize(
    "mine, other, layer", [((3, 8, 8), (5, 4, 4), nn.Conv2d), ((4,), (6,), nn.Linear), ((9, 4), (9, 6), nn.Linear)]
)
def test_prepare__three_layers_as_wide_as_the_teacher(
    mine: tuple[int, ...], other: tuple[int, ...], layer: type[nn.Module]
) -> None:
    loss = prepared(mine, other)
    kinds = [type(part) for part in loss.regressors[0].children()]
    assert kinds == [layer, nn.ReLU, layer, nn.ReLU, layer]
    outputs = (Outputs(torch.zeros(2, 5), {k: torch.randn(2, *s)}) for k, s in (("a", mine), ("b", other)))
    assert loss(*outputs, batch()).isfinite()


@pytest.mark.parametrize("train_variance", [True, False])
def test_variance__starts_at_five_and_moves_only_where_trained(train_variance: bool) -> None:
    loss = prepared((3, 4, 4), (5, 4, 4), train_variance)
    torch.testing.assert_close(loss.variance(0), torch.full((5,), 5.0))
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    teacher = Outputs(torch.zeros(2, 5), {"b": torch.zeros(2, 5, 4, 4)})
    loss(Outputs(torch.zeros(2, 5), {"a": torch.zeros(2, 3, 4, 4)}), teacher, batch()).backward()
    optimizer.step()
    moved = loss.variance(0) < 5 - 1e-3
    assert moved.all() if train_variance else not moved.any()
    assert "alpha0" in loss.state_dict()


@pytest.mark.parametrize("mine, other", [((3, 4, 4), (5,)), ((5,), (3, 4, 4)), ((9, 4), (8, 4))])
def test_prepare__forms_that_do_not_meet(mine: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="choose two maps, tokens of the same number, or two vectors"):
        prepared(mine, other)


@pytest.mark.parametrize("variance, eps", [(1e-6, 1e-5), (5.0, 0.0)])
def test_init__variance(variance: float, eps: float) -> None:
    with pytest.raises(ValueError, match="init_variance=.* must be above eps="):
        VID(init_variance=variance, eps=eps)
