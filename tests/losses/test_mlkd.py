"""MLKD against loops over samples and classes, and against the published combination written out by hand."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.kd import kd
from distill.losses.mlkd import MLKD, levels, mlkd
from distill.outputs import Batch


def probabilities(logits: Tensor, temperature: float) -> list[list[Tensor]]:
    return [[torch.exp(v / temperature) / sum(torch.exp(w / temperature) for w in row) for v in row] for row in logits]


def grams(p: list[list[Tensor]]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    n, k = len(p), len(p[0])
    samples = [[sum(p[a][i] * p[b][i] for i in range(k)) for b in range(n)] for a in range(n)]
    classes = [[sum(p[a][i] * p[a][j] for a in range(n)) for j in range(k)] for i in range(k)]
    return samples, classes


def oracle(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    p_s, p_t = probabilities(student, temperature), probabilities(teacher, temperature)
    kl = sum(t * (t.log() - s.log()) for a, b in zip(p_s, p_t, strict=True) for s, t in zip(a, b, strict=True))
    distances = []
    for mine, other in zip(grams(p_s), grams(p_t), strict=True):
        total = sum((x - y) ** 2 for a, b in zip(mine, other, strict=True) for x, y in zip(a, b, strict=True))
        distances.append(total / len(mine))
    return temperature**2 * kl / len(student), *distances


def pair(shape: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=random), 3 * torch.randn(shape, generator=random)


@pytest.mark.parametrize("shape", [(2, 3), (5, 4), (1, 6)])
def test_mlkd__value_and_gradient(shape: tuple[int, int]) -> None:
    weak, strong = pair(shape, 0), pair(shape, 1)
    mine = [weak[0].clone().requires_grad_(), strong[0].clone().requires_grad_()]
    exact = [weak[0].double().requires_grad_(), strong[0].double().requires_grad_()]
    value = mlkd((mine[0], weak[1]), (mine[1], strong[1]), [4.0, 2.0, 6.0])
    expected = sum(
        part
        for logits, (_, teacher) in zip(exact, (weak, strong), strict=True)
        for temperature in (4.0, 2.0, 6.0)
        for part in oracle(logits, teacher.double(), temperature)
    )
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    for got, wanted in zip(mine, exact, strict=True):
        torch.testing.assert_close(got.grad.double(), wanted.grad, rtol=1e-4, atol=1e-6)


def test_mlkd__strict_reference_is_the_published_combination() -> None:
    weak, strong, temperatures = pair((6, 4), 0), pair((6, 4), 1), [4.0, 3.0, 5.0, 2.0, 6.0]
    one = {t: oracle(weak[0].double(), weak[1].double(), t) for t in temperatures}
    other = {t: oracle(strong[0].double(), strong[1].double(), t) for t in temperatures}
    p = weak[1].double().softmax(1)
    sure, mass = p.max(1).values, p.sum(0)
    # numpy's percentile 50 of an even number of values lies between the middle two
    half = (sure <= sure.sort().values[2:4].mean()).double().mean()
    rare = (mass <= mass.sort().values[1:3].mean()).double().mean()
    expected = half * sum(one[t][0] for t in temperatures)
    expected += sum(other[t][0] for t in (4.0, 3.0, 5.0)) + one[2.0][0] + one[6.0][0]
    expected += rare * sum(one[t][2] for t in temperatures)
    expected += half * sum(one[t][1] for t in temperatures)
    torch.testing.assert_close(mlkd(weak, strong, temperatures, strict=True).double(), expected, rtol=1e-5, atol=1e-6)


def test_mlkd__zero_at_the_teacher() -> None:
    teacher = torch.randn(5, 7)
    assert mlkd((teacher, teacher), (teacher, teacher), [1.0, 4.0]).item() == pytest.approx(0, abs=1e-6)


def test_levels__instance_is_kd() -> None:
    student, teacher = pair((5, 7), 3)
    found = levels(student, teacher, [4.0, 2.0]).instance
    torch.testing.assert_close(found, torch.stack([kd(student, teacher, 4.0), kd(student, teacher, 2.0)]))


@pytest.mark.parametrize("temperatures", [[], [4.0, 0.0], [math.nan]])
def test_init__temperatures(temperatures: list[float]) -> None:
    with pytest.raises(ValueError, match="temperatures must be numbers above 0"):
        MLKD(temperatures=temperatures)


def test_strong__is_a_function_of_sample_and_view() -> None:
    make = MLKD(temperatures=[4.0]).views()["strong"]
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)
    number = torch.arange(6)
    batch = Batch(images, number, number, torch.full((6,), 3))
    whole = make(batch)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    again = make(Batch(images[order], number[order], number[order], torch.full((6,), 3)))
    assert torch.equal(whole[order], again)
    assert not torch.equal(whole, make(batch._replace(view=torch.full((6,), 4))))
    assert not torch.equal(whole, images)
