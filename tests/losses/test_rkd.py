"""RKD against loops over pairs and triples, whole and in chunks; and what it holds in memory."""

from unittest import mock

import pytest
import torch
from torch import Tensor

from distill.losses import rkd as module
from distill.losses.rkd import RKD, drawn, rkd
from distill.outputs import Batch, Outputs


def huber(a: Tensor, b: Tensor) -> Tensor:
    gap = (a - b).abs()
    return gap**2 / 2 if gap < 1 else gap - 0.5


def relative(x: Tensor) -> list[list[Tensor]]:
    size = range(len(x))
    d = [[(x[i] - x[j]).norm() if i != j else torch.zeros((), dtype=x.dtype) for j in size] for i in size]
    mean = sum(d[i][j] for i in size for j in size if i != j) / (len(x) * (len(x) - 1))
    return [[v / mean for v in row] for row in d]


def cosine(x: Tensor, i: int, j: int, k: int) -> Tensor:
    a, b = x[j] - x[i], x[k] - x[i]
    return (a * b).sum() / (a.norm() * b.norm())


def oracle(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    size = range(len(student))
    s, t = relative(student), relative(teacher)
    pairs = sum(huber(s[i][j], t[i][j]) for i in size for j in size) / len(student) ** 2
    triples = [(i, j, k) for i in size for j in size for k in size if len({i, j, k}) == 3]
    angles = sum(huber(cosine(student, *ijk), cosine(teacher, *ijk)) for ijk in triples) / len(student) ** 3
    return distance * pairs + angle * angles


@pytest.mark.parametrize("chunk", [1, 80, 2**24])
@pytest.mark.parametrize("size, mine, other", [(3, 2, 5), (6, 4, 3)])
@pytest.mark.parametrize("distance, angle", [(25.0, 50.0), (1.0, 0.0), (0.0, 2.0)])
def test_rkd__value_and_gradient(size: int, mine: int, other: int, distance: float, angle: float, chunk: int) -> None:
    student, teacher = 3 * torch.randn(size, mine), 2 * torch.randn(size, other)
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    value = rkd(student, teacher, distance, angle, chunk)
    expected = oracle(exact, teacher.double(), distance, angle)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_rkd__three_points_by_hand() -> None:
    """Sides 3, 4, 5 against 1, 1, 1: distances over their mean 3/4, 1, 5/4; cosines 0, 3/5, 4/5 against 1/2."""
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, 0.75**0.5]])
    assert rkd(student, teacher, 1, 0).item() == pytest.approx(2 * (0.25**2 + 0 + 0.25**2) / 2 / 9)
    assert rkd(student, teacher, 0, 1).item() == pytest.approx(2 * (0.5**2 + 0.1**2 + 0.3**2) / 2 / 27, rel=1e-5)


def test_rkd__zero_at_the_teacher_moved_turned_and_scaled() -> None:
    teacher = torch.randn(7, 4)
    turn = torch.linalg.qr(torch.randn(4, 4)).Q
    assert rkd(5 * teacher @ turn + 2, teacher).item() == pytest.approx(0, abs=1e-9)


def test_rkd__two_equal_samples_have_a_finite_gradient() -> None:
    student = torch.randn(5, 3)
    student[3] = student[1]
    student.requires_grad_()
    rkd(student, torch.randn(5, 4)).backward()
    assert student.grad.abs().max() < 100


def test_rkd__never_holds_all_triples() -> None:
    """Angles are computed in parts and once, so none can have been kept or made again for the backward pass."""
    size, made = 24, []
    angles = module._angles

    def watched(x: Tensor, first: Tensor) -> Tensor:
        found = angles(x, first)
        made.append(found.numel())
        return found

    student = torch.randn(size, 5, requires_grad=True)
    with mock.patch.object(module, "_angles", watched):
        rkd(student, torch.randn(size, 5), chunk=2 * size**2).backward()
    assert max(made) == 2 * size**2
    assert sum(made) == 2 * size**3  # of student and teacher


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_rkd__angles_at_some_samples_only(chunk: int) -> None:
    student, teacher, at = torch.randn(6, 4), torch.randn(6, 3), torch.tensor([4, 1])
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    size = range(6)
    triples = [(i, j, k) for i in (1, 4) for j in size for k in size if len({i, j, k}) == 3]
    expected = sum(huber(cosine(exact, *ijk), cosine(teacher.double(), *ijk)) for ijk in triples) / (2 * 6**2)
    value = rkd(student, teacher, 0.0, 1.0, chunk, at)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_drawn__by_the_samples_wherever_they_stand_and_all_alike_in_the_long_run() -> None:
    index = torch.arange(8)
    order = torch.randperm(8)
    for view in range(5):
        whole = drawn(index, torch.full((8,), view), 3)
        assert set(order[drawn(index[order], torch.full((8,), view), 3)].tolist()) == set(whole.tolist())
    student, teacher = torch.randn(8, 4), torch.randn(8, 5)
    some = [rkd(student, teacher, 0, 1, at=drawn(index, torch.full((8,), view), 3)) for view in range(3000)]
    assert len(torch.stack(some).unique()) > 50  # of 56
    assert torch.stack(some).mean().item() == pytest.approx(rkd(student, teacher, 0, 1).item(), rel=0.01)


def test_forward__weights_and_taps() -> None:
    feature, other, logits = torch.randn(4, 3), torch.randn(4, 6), torch.zeros(4, 2)
    number = torch.arange(4)
    batch = Batch(torch.zeros(4, 1, 2, 2), number, number, number)
    loss = RKD("a", "b", distance=2.0, angle=3.0)
    value = loss(Outputs(logits, {"a": feature}), Outputs(logits, {"b": other}), batch)
    torch.testing.assert_close(value, rkd(feature, other, 2.0, 3.0))
    value = RKD("a", "b", 2.0, 3.0, vertices=2)(Outputs(logits, {"a": feature}), Outputs(logits, {"b": other}), batch)
    torch.testing.assert_close(value, rkd(feature, other, 2.0, 3.0, at=drawn(number, number, 2)))
    with pytest.raises(ValueError, match="vertices must be at least 1, got 0; null"):
        RKD(vertices=0)
