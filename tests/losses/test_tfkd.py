"""TfKD against loops over a teacher made up by hand, in the paper's form and in that of the authors' code."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.tfkd import TfKD, tfkd, virtual_teacher
from distill.outputs import Spec

from .naive import SHAPES, check, rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tau, correct", [(1.0, 0.9), (20.0, 0.99)])
@pytest.mark.parametrize("strict", [False, True])
def test_tfkd__value_and_gradient(shape: tuple[int, int], tau: float, correct: float, strict: bool) -> None:
    def oracle(student: Tensor, _: Tensor, target: list[int]) -> Tensor:
        classes, total = shape[1], torch.zeros((), dtype=torch.float64)
        for q, y in zip(rows(student, 1.0 if strict else tau), target, strict=True):
            p = [correct if k == y else (1 - correct) / (classes - 1) for k in range(classes)]
            powers = [math.exp(a / tau) if strict else a ** (1 / tau) for a in p]
            soft = [a / sum(powers) for a in powers]
            total = total + sum(a * (math.log(a) - torch.log(b)) for a, b in zip(soft, q, strict=True))
        return total / shape[0] / (classes if strict else 1)

    check(lambda s, _, y: tfkd(s, y, tau, correct, strict), oracle, shape)


def test_tfkd__zero_at_the_made_up_teacher() -> None:
    target = torch.tensor([1, 0, 3])
    student = virtual_teacher(target, 5, 0.99).log()
    assert tfkd(student, target, 20.0, 0.99).item() == pytest.approx(0, abs=1e-6)


def test_virtual_teacher__is_right_and_adds_up() -> None:
    made = virtual_teacher(torch.tensor([2, 0]), 4, 0.7)
    torch.testing.assert_close(made, torch.tensor([[0.1, 0.1, 0.7, 0.1], [0.7, 0.1, 0.1, 0.1]]))


@pytest.mark.parametrize("correct", [0.0, 1.0, math.nan])
def test_init__correct(correct: float) -> None:
    with pytest.raises(ValueError, match="correct must be above 0 and below 1"):
        TfKD(correct=correct)


def test_prepare__one_class() -> None:
    with pytest.raises(ValueError, match="TfKD compares a class with the others and needs at least 2 classes, got 1"):
        TfKD().prepare({"logits": Spec((1,))}, {})
