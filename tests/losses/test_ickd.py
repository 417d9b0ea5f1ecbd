"""ICKD against loops over images and channels."""

import pytest
import torch
from torch import Tensor

from distill.losses.ickd import ICKD, ickd
from distill.outputs import Spec


def rows(image: Tensor) -> list[list[Tensor]]:
    g = [[(a * b).sum() for b in image] for a in image]
    return [[v / torch.sqrt(sum(w * w for w in row)) for v in row] for row in g]


def oracle(student: Tensor, teacher: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for one, other in zip(student, teacher, strict=True):
        for a, b in zip(rows(one), rows(other), strict=True):
            total = total + sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return total / (student.shape[0] * student.shape[1])


@pytest.mark.parametrize("mine, other", [((1, 2, 3, 3), (1, 2, 1, 1)), ((3, 4, 2, 2), (3, 4, 4, 4))])
def test_ickd__value_and_gradient(mine: tuple[int, ...], other: tuple[int, ...]) -> None:
    student, teacher = torch.randn(mine, requires_grad=True), torch.randn(other)
    exact = student.detach().double().requires_grad_()
    value, expected = ickd(student, teacher), oracle(exact, teacher.double())
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_ickd__by_hand() -> None:
    """Two orthogonal channels against two equal ones: rows (1, 0) and (1, 1) / sqrt 2."""
    student, teacher = torch.eye(2).view(1, 2, 2, 1), torch.ones(1, 2, 1, 1)
    assert ickd(student, teacher).item() == pytest.approx((1 - 0.5**0.5) ** 2 + 0.5)


def test_ickd__zero_at_the_teacher_with_its_pixels_moved() -> None:
    teacher = torch.randn(2, 5, 3, 3)
    moved = 2 * teacher.flatten(2)[:, :, torch.randperm(9)].view(2, 5, 3, 3)
    assert ickd(moved, teacher).item() == pytest.approx(0, abs=1e-12)


def test_prepare__maps_of_other_sizes_need_no_resizing() -> None:
    loss = ICKD()
    loss.prepare({"stage3": Spec((3, 4, 4))}, {"stage3": Spec((7, 9, 5))})
    assert loss.connector(torch.randn(2, 3, 4, 4)).shape == (2, 7, 4, 4)


def test_prepare__vector_instead_of_a_map() -> None:
    with pytest.raises(ValueError, match=r"needs maps \(C, H, W\), and student tap 'pooled' has shape \(3,\)"):
        ICKD("pooled").prepare({"pooled": Spec((3,))}, {"stage3": Spec((7, 2, 2))})
