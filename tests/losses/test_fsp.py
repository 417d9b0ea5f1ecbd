"""FSP against loops over channels and positions."""

import pytest
import torch
from torch import Tensor

from distill.losses.fsp import FSP, flow, fsp
from distill.outputs import Batch, Outputs, Spec


def flow_of(lower: Tensor, upper: Tensor) -> list[list[Tensor]]:
    _, height, width = lower.shape
    places = [(i, j) for i in range(height) for j in range(width)]
    return [[sum(a[p] * b[p] for p in places) / len(places) for b in upper] for a in lower]


def oracle(student: list[Tensor], teacher: list[Tensor], strict_reference: bool) -> Tensor:
    total, samples = torch.zeros((), dtype=torch.float64), len(student[0])
    for level in range(len(student) - 1):
        entries = student[level].shape[1] * student[level + 1].shape[1]
        for n in range(samples):
            mine = flow_of(student[level][n], student[level + 1][n])
            other = flow_of(teacher[level][n], teacher[level + 1][n])
            squared = sum((a - b) ** 2 for r, q in zip(mine, other, strict=True) for a, b in zip(r, q, strict=True))
            total = total + squared / (entries if strict_reference else 1)
    return total / samples


def batch() -> Batch:
    zero = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), zero, zero, zero)


@pytest.mark.parametrize("channels", [(2, 3), (2, 3, 1)])
@pytest.mark.parametrize("strict_reference", [False, True])
def test_forward__value_and_gradient(channels: tuple[int, ...], strict_reference: bool) -> None:
    torch.manual_seed(0)
    names = [f"tap{i}" for i in range(len(channels))]
    mine = {k: torch.randn(2, c, 2, 3, requires_grad=True) for k, c in zip(names, channels, strict=True)}
    other = {k: torch.randn(2, c, 2, 3) for k, c in zip(names, channels, strict=True)}
    exact = [v.detach().double().requires_grad_() for v in mine.values()]
    loss = FSP(names, names, strict_reference)
    value = loss(Outputs(torch.zeros(2, 5), mine), Outputs(torch.zeros(2, 5), other), batch())
    expected = oracle(exact, [v.double() for v in other.values()], strict_reference)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    for one, two in zip(mine.values(), exact, strict=True):
        torch.testing.assert_close(one.grad.double(), two.grad, rtol=1e-4, atol=1e-6)


def test_flow__pools_the_larger_map() -> None:
    torch.manual_seed(0)
    lower, upper = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    blocks = lower.view(2, 3, 2, 2, 2, 2)
    torch.testing.assert_close(flow(lower, upper), flow(blocks.amax((3, 5)), upper))
    torch.testing.assert_close(flow(lower, upper, strict_reference=True), flow(blocks.mean((3, 5)), upper))
    torch.testing.assert_close(flow(upper, lower), flow(lower, upper).mT)


def test_fsp__zero_at_the_teacher_and_quadratic_in_the_size_of_a_flow() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert fsp(teacher, teacher) == 0
    torch.testing.assert_close(fsp(3 * student, 3 * teacher), 9 * fsp(student, teacher))
    torch.testing.assert_close(fsp(student, teacher), 12 * fsp(student, teacher, strict_reference=True))


def test_prepare__other_channels() -> None:
    mine, other = {"a": Spec((3, 4, 4)), "b": Spec((6, 4, 4))}, {"a": Spec((3, 4, 4)), "b": Spec((8, 4, 4))}
    with pytest.raises(ValueError, match=r"student tap 'b' of shape \(6, 4, 4\) and .* choose networks of the same"):
        FSP(["a", "b"], ["a", "b"]).prepare(mine, other)


def test_init__one_tap() -> None:
    with pytest.raises(ValueError, match="a flow is between two taps; give two or more"):
        FSP(["a"], ["a"])
