"""WSLD against loops over samples and classes, and what its weights do at their ends."""

import pytest
import torch
from torch import Tensor

from distill.losses.soft_ce import soft_ce
from distill.losses.wsld import behind, wsld

from .naive import SHAPES, check, rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_wsld__value_and_gradient(shape: tuple[int, int], temperature: float) -> None:
    def oracle(student: Tensor, teacher: Tensor, target: list[int]) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        plain = zip(rows(teacher), rows(student.detach()), strict=True)
        soft = zip(rows(teacher, temperature), rows(student, temperature), strict=True)
        for (p, q), (warm_p, warm_q), y in zip(plain, soft, target, strict=True):
            weight = 1 - torch.exp(-torch.log(q[y]) / torch.log(p[y]))
            total = total - weight * sum(a * torch.log(b) for a, b in zip(warm_p, warm_q, strict=True))
        return temperature**2 * total / len(target)

    check(lambda s, t, y: wsld(s, t, y, temperature), oracle, shape)


def test_wsld__nothing_is_left_where_the_student_is_sure_and_right() -> None:
    sure = 60 * torch.eye(3)
    assert wsld(sure, torch.randn(3, 3), torch.arange(3), 2.0).item() == pytest.approx(0, abs=1e-6)


def test_wsld__is_the_soft_cross_entropy_beside_a_sure_teacher() -> None:
    student, sure = torch.randn(3, 3), 60 * torch.eye(3)
    torch.testing.assert_close(wsld(student, sure, torch.arange(3), 2.0), soft_ce(student, sure, 2.0))


def test_behind__equals_one_less_one_over_e_where_both_are_as_good() -> None:
    logits = torch.randn(4, 5)
    expected = torch.full((4,), 1 - 1 / torch.e)
    torch.testing.assert_close(behind(logits, logits + 1, torch.tensor([0, 1, 2, 3])), expected)
