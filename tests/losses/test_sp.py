"""SP against loops over pairs of samples."""

import pytest
import torch
from torch import Tensor

from distill.losses.sp import SP, sp
from distill.outputs import Spec


def rows(x: Tensor) -> list[list[Tensor]]:
    flat = [sample.reshape(-1) for sample in x]
    g = [[(a * b).sum() for b in flat] for a in flat]
    return [[value / torch.sqrt(sum(v * v for v in row)) for value in row] for row in g]


def oracle(student: Tensor, teacher: Tensor) -> Tensor:
    pairs = zip(rows(student), rows(teacher), strict=True)
    return sum((a - b) ** 2 for r, q in pairs for a, b in zip(r, q, strict=True)) / len(student) ** 2


@pytest.mark.parametrize("mine, other", [((2, 3), (2, 5)), ((5, 4, 3, 3), (5, 2, 6, 6)), ((7, 9, 4), (7, 3))])
def test_sp__value_and_gradient(mine: tuple[int, ...], other: tuple[int, ...]) -> None:
    student, teacher = torch.randn(mine, requires_grad=True), torch.randn(other)
    exact = student.detach().double().requires_grad_()
    value, expected = sp(student, teacher), oracle(exact, teacher.double())
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_sp__by_hand() -> None:
    """Orthogonal samples against equal ones: rows (1, 0) and (1, 1) / sqrt 2."""
    value = sp(torch.eye(2), torch.ones(2, 3))
    assert value.item() == pytest.approx(((1 - 0.5**0.5) ** 2 + 0.5) / 2)


def test_sp__zero_at_the_teacher_turned_and_scaled() -> None:
    teacher = torch.randn(6, 4)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    assert sp(3 * teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-12)


def test_sp__a_sample_of_zeros_has_a_small_gradient() -> None:
    """Its row of similarities has no length to divide by."""
    student = torch.randn(4, 3)
    student[1] = 0
    student.requires_grad_()
    sp(student, torch.randn(4, 3)).backward()
    assert student.grad.abs().max() < 1


def test_prepare__teacher_with_logits_only() -> None:
    with pytest.raises(ValueError, match="the teacher gives no 'stage3'; it gives logits"):
        SP().prepare({"logits": Spec((5,)), "stage3": Spec((3, 4, 4))}, {"logits": Spec((5,))})
