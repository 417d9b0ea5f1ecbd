"""NKD against loops over samples and classes, and its relation to DKD."""

import pytest
import torch
from torch import Tensor

from distill.losses.dkd import dkd
from distill.losses.nkd import NKD, nkd
from distill.outputs import Spec

from .naive import SHAPES, check, rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature, gamma", [(1.0, 1.5), (3.0, 3.5), (2.0, 0.0)])
def test_nkd__value_and_gradient(shape: tuple[int, int], temperature: float, gamma: float) -> None:
    def oracle(student: Tensor, teacher: Tensor, target: list[int]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        warm = zip(rows(teacher, temperature), rows(student, temperature), strict=True)
        for p, q, (warm_p, warm_q), y in zip(rows(teacher), rows(student), warm, target, strict=True):
            total = total - p[y] * torch.log(q[y])
            others = [k for k in range(len(p)) if k != y]
            rest_p, rest_q = sum(warm_p[k] for k in others), sum(warm_q[k] for k in others)
            for k in others:
                total = total - gamma * temperature**2 * warm_p[k] / rest_p * torch.log(warm_q[k] / rest_q)
        return total / len(target)

    check(lambda s, t, y: nkd(s, t, y, temperature, gamma), oracle, shape)


def test_nkd__gradient_among_the_others_is_that_of_dkd() -> None:
    torch.manual_seed(0)
    student, teacher, target = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6), torch.tensor([0, 5, 2, 2])
    (mine,) = torch.autograd.grad(
        nkd(student, teacher, target, 2.0, 1.0) - nkd(student, teacher, target, 2.0, 0.0), student
    )
    (other,) = torch.autograd.grad(dkd(student, teacher, target, 2.0, 0.0, 1.0), student)
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_nkd__t2_is_a_factor_of_the_others_alone() -> None:
    student, teacher, target = torch.randn(4, 6), torch.randn(4, 6), torch.tensor([0, 5, 2, 2])
    torch.testing.assert_close(
        nkd(student, teacher, target, 3.0, 1.5), nkd(student, teacher, target, 3.0, 13.5, t2=False)
    )


def test_nkd__a_temperature_of_each_sample() -> None:
    torch.manual_seed(0)
    student, teacher, target = torch.randn(2, 6), torch.randn(2, 6), torch.tensor([1, 4])
    apart = [nkd(student[i : i + 1], teacher[i : i + 1], target[i : i + 1], t, 1.5) for i, t in enumerate((2.0, 5.0))]
    torch.testing.assert_close(nkd(student, teacher, target, torch.tensor([2.0, 5.0]), 1.5), sum(apart) / 2)


def test_prepare__one_class() -> None:
    with pytest.raises(ValueError, match="NKD compares a class with the others and needs at least 2 classes, got 1"):
        NKD().prepare({"logits": Spec((1,))}, {"logits": Spec((1,))})
