"""SDD against loops over samples and regions, its relation to KD, and the tap that gives it class scores."""

import pytest
import torch
from torch import Tensor, nn

from distill.losses.kd import kd
from distill.losses.sdd import SDD, disagrees, regions, sdd
from distill.outputs import InputSpec, Spec
from distill.taps import Tapped

from .naive import rows


def cut(scores: Tensor, scale: int) -> list[Tensor]:
    size = scores.shape[1] // scale
    corners = [(i * size, j * size) for i in range(scale) for j in range(scale)]
    return [scores[:, i : i + size, j : j + size].sum((1, 2)) / size**2 for i, j in corners]


def oracle(student: Tensor, teacher: Tensor, target: Tensor, temperature: float, beta: float) -> Tensor:
    values = []
    for s, t, y in zip(student, teacher, target.tolist(), strict=True):
        whole = t.mean((1, 2)).argmax() == y
        for scale in (1, 2, 4):
            for mine, other in zip(cut(s, scale), cut(t, scale), strict=True):
                (p,), (q,) = rows(other[None], temperature), rows(mine[None], temperature)
                value = temperature**2 * sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))
                values.append(value * (beta if (other.argmax() == y) != whole else 1))
    return sum(values) / len(values)


@pytest.mark.parametrize("temperature, beta", [(1.0, 2.0), (4.0, 2.0), (4.0, 0.5)])
def test_sdd__value_and_gradient(temperature: float, beta: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(6, 3, 4, 4, requires_grad=True), 3 * torch.randn(6, 3, 8, 8)
    target = torch.tensor([0, 1, 2, 0, 1, 2])
    assert 0 < disagrees(teacher, target, [1, 2, 4]).float().mean() < 1
    exact = student.detach().double().requires_grad_()
    found = sdd(student, teacher, target, temperature, [1, 2, 4], beta)
    expected = oracle(exact, teacher.double(), target, temperature, beta)
    found.backward()
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_sdd__of_the_whole_map_is_kd() -> None:
    student, teacher, target = torch.randn(4, 5, 4, 4), torch.randn(4, 5, 4, 4), torch.arange(4)
    expected = kd(student.mean((2, 3)), teacher.mean((2, 3)), 3.0)
    torch.testing.assert_close(sdd(student, teacher, target, 3.0, [1], 2.0), expected)


def test_sdd__zero_at_the_teacher() -> None:
    maps = torch.randn(4, 5, 4, 4)
    assert sdd(maps, maps, torch.arange(4), 3.0, [1, 2, 4], 2.0).item() == pytest.approx(0, abs=1e-5)


def test_sdd__temperatures_of_each_sample_and_side() -> None:
    torch.manual_seed(0)
    student, teacher, target = torch.randn(2, 5, 4, 4), torch.randn(2, 5, 4, 4), torch.tensor([1, 3])
    t_s, t_t = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])
    apart = [
        t_s[i]
        * t_t[i]
        * sdd(student[i : i + 1] / t_s[i], teacher[i : i + 1] / t_t[i], target[i : i + 1], 1.0, [2], 2.0)
        for i in range(2)
    ]
    torch.testing.assert_close(sdd(student, teacher, target, (t_s, t_t), [2], 2.0), sum(apart) / 2)
    torch.testing.assert_close(
        sdd(student, teacher, target, t_s, [2], 2.0), sdd(student, teacher, target, (t_s, t_s), [2], 2.0)
    )


def test_disagrees__by_hand() -> None:
    scores = torch.zeros(1, 2, 2, 2)
    scores[0, 1] = torch.tensor([[4.0, -1.0], [-1.0, -1.0]])  # class 1 in one corner and, by its mean, in the whole
    assert disagrees(scores, torch.tensor([1]), [1, 2]).tolist() == [[False, False, True, True, True]]
    assert disagrees(scores, torch.tensor([0]), [1, 2]).tolist() == [[False, False, True, True, True]]


def test_tap__scores_at_every_position_have_the_logits_as_their_mean() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    outputs = Tapped(network, InputSpec((0.5,) * 3, (0.5,) * 3), ["1@4", "1"])(torch.rand(2, 3, 6, 6))
    scores = outputs.features["1@4"]
    assert scores.shape == (2, 4, 4, 4)
    torch.testing.assert_close(scores.mean((2, 3)), outputs.logits)
    torch.testing.assert_close(regions(scores, [1])[:, 0], outputs.logits)
    scores[:, :, 0, 0].sum().backward()
    assert network[0].weight.grad.abs().sum() > 0
    assert network[4].weight.grad.abs().sum() > 0


def test_tap__a_classifier_that_is_not_there() -> None:
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6, 4))
    with pytest.raises(ValueError, match="tap '0@fc': Sequential has no linear layer 'fc'; it has 2"):
        Tapped(network, InputSpec((0.5,) * 3, (0.5,) * 3), ["0@fc"])


@pytest.mark.parametrize("shape", [(6, 4, 4), (5, 2, 4), (5, 4)])
def test_prepare__refuses_what_is_no_map_of_class_scores(shape: tuple[int, ...]) -> None:
    good = {"logits": Spec((5,)), "pool:in@fc": Spec((5, 4, 4))}
    with pytest.raises(
        ValueError, match="'pool:in@fc' must be class scores at every position, .* at least 4 x 4 of them"
    ):
        SDD().prepare(good, {**good, "pool:in@fc": Spec(shape)})


@pytest.mark.parametrize("scales", [[], [0, 1]])
def test_init__scales(scales: list[int]) -> None:
    with pytest.raises(ValueError, match="scales must be whole numbers from 1, got"):
        SDD(scales=scales)
