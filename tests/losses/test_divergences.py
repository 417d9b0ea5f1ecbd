"""RKL, JSD, TV and SoftCE against loops over samples and classes, and the identities between them and KD."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.jsd import JSD, jsd
from distill.losses.kd import kd
from distill.losses.rkl import rkl
from distill.losses.soft_ce import soft_ce
from distill.losses.tv import tv
from distill.schedules.linear import Linear

from .naive import SHAPES, check, rows


def kl(p: list[Tensor], q: list[Tensor]) -> Tensor:
    return sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))


def js(p: list[Tensor], q: list[Tensor], beta: float) -> Tensor:
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


LOSSES = {
    "rkl": (rkl, lambda p, q: kl(q, p)),
    "jsd": (lambda s, t, h, t2: jsd(s, t, h, 0.5, t2), lambda p, q: js(p, q, 0.5)),
    "jsd_low": (lambda s, t, h, t2: jsd(s, t, h, 0.1, t2), lambda p, q: js(p, q, 0.1)),
    "jsd_high": (lambda s, t, h, t2: jsd(s, t, h, 0.9, t2), lambda p, q: js(p, q, 0.9)),
    "tv": (tv, lambda p, q: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2),
    "soft_ce": (soft_ce, lambda p, q: -sum(a * torch.log(b) for a, b in zip(p, q, strict=True))),
}
each = pytest.mark.parametrize("name", LOSSES)


@each
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("t2", [True, False])
def test_divergence__value_and_gradient(name: str, shape: tuple[int, int], temperature: float, t2: bool) -> None:
    loss, by_hand = LOSSES[name]

    def oracle(student: Tensor, teacher: Tensor, _: list[int]) -> Tensor:
        pairs = zip(rows(teacher, temperature), rows(student, temperature), strict=True)
        return (temperature**2 if t2 else 1) * sum(by_hand(p, q) for p, q in pairs) / len(student)

    check(lambda s, t, _: loss(s, t, temperature, t2), oracle, shape)


@each
def test_divergence__a_temperature_of_each_sample_and_side(name: str) -> None:
    torch.manual_seed(0)
    loss = LOSSES[name][0]
    student, teacher = torch.randn(2, 6), torch.randn(2, 6)
    t_s, t_t = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])
    apart = [
        t_s[i] * t_t[i] * loss(student[i : i + 1] / t_s[i], teacher[i : i + 1] / t_t[i], 1.0, False) for i in range(2)
    ]
    torch.testing.assert_close(loss(student, teacher, (t_s, t_t), True), sum(apart) / 2)


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "soft_ce"])
def test_divergence__zero_at_the_teacher_and_shifts_of_it(name: str) -> None:
    teacher = torch.randn(5, 7)
    value = LOSSES[name][0](teacher + torch.arange(5.0)[:, None], teacher, 2.0, True)
    assert value.item() == pytest.approx(0, abs=2e-6)


def test_rkl__is_kd_with_the_sides_changed() -> None:
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    torch.testing.assert_close(rkl(student, teacher, 3.0), kd(teacher, student, 3.0))


def test_jsd__half_is_symmetric_and_at_most_ln_2() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    torch.testing.assert_close(jsd(student, teacher, 2.0), jsd(teacher, student, 2.0))
    far = 1e4 * torch.eye(2)
    assert jsd(far, far.flip(0), 1.0).item() == pytest.approx(math.log(2))


def test_jsd__tends_to_kd_and_the_reverse_at_its_ends() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6).double(), torch.randn(4, 6).double()
    torch.testing.assert_close(jsd(student, teacher, 1.0, 1e-2) / 1e-2, kd(student, teacher, 1.0), rtol=0.05, atol=0)
    near_one = jsd(student, teacher, 1.0, 1 - 1e-2) / 1e-2
    torch.testing.assert_close(near_one, rkl(student, teacher, 1.0), rtol=0.05, atol=0)


@pytest.mark.parametrize("beta", [0.0, 1.0, math.nan, Linear(start=0.5, end=0.0)])
def test_jsd__refuses_the_ends(beta) -> None:
    with pytest.raises(ValueError, match="beta must be above 0 and below 1, got .*; at the ends take loss kd or rkl"):
        JSD(beta=beta)


def test_tv__is_1_between_distributions_without_a_common_class() -> None:
    far = 1e4 * torch.eye(2)
    assert tv(far, far.flip(0), 1.0).item() == 1.0


def test_tv__bounded_by_kd_as_pinsker_says() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        student, teacher = 3 * torch.randn(1, 6), 3 * torch.randn(1, 6)
        assert tv(student, teacher, 1.0) <= (kd(student, teacher, 1.0) / 2).sqrt() + 1e-6


def test_soft_ce__is_kd_plus_the_teachers_entropy() -> None:
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    entropy = soft_ce(teacher, teacher, 3.0)
    torch.testing.assert_close(soft_ce(student, teacher, 3.0), kd(student, teacher, 3.0) + entropy)
