"""ReviewKD against loops over grids and pixels."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.reviewkd import ReviewKD, hcl
from distill.outputs import Batch, Outputs, Spec


def averages(maps: Tensor, grid: int) -> Tensor:
    """Average over the cells of a grid, which overlap where the size is no multiple of it."""
    height, width = maps.shape[-2:]
    rows = []
    for i in range(grid):
        top, bottom = math.floor(i * height / grid), math.ceil((i + 1) * height / grid)
        cells = []
        for j in range(grid):
            left, right = math.floor(j * width / grid), math.ceil((j + 1) * width / grid)
            cells.append(maps[:, :, top:bottom, left:right].sum((2, 3)) / ((bottom - top) * (right - left)))
        rows.append(torch.stack(cells, -1))
    return torch.stack(rows, -2)


def oracle(student: Tensor, teacher: Tensor) -> Tensor:
    height = min(student.shape[-2:])
    parts = [(1.0, student - teacher)]
    for grid in (4, 2, 1):
        if grid < height:
            parts.append((0.5 ** len(parts), averages(student, grid) - averages(teacher, grid)))
    return sum(w * (d * d).sum() / d.numel() for w, d in parts) / sum(w for w, _ in parts)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (3, 2, 4, 4), (1, 2, 1, 1), (2, 1, 7, 5), (2, 2, 2, 3)])
def test_hcl__value_and_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value, expected = hcl(student, teacher), oracle(exact, teacher.double())
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


def test_hcl__zero_at_the_teacher_and_the_square_of_a_shift() -> None:
    teacher = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert hcl(teacher, teacher) == 0
    assert hcl(teacher + 3, teacher).item() == pytest.approx(9, rel=1e-5)


def normed(maps: Tensor) -> Tensor:
    mean = maps.mean((0, 2, 3), keepdim=True)
    return (maps - mean) / torch.sqrt(((maps - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5)


def nearest(maps: Tensor, height: int, width: int) -> Tensor:
    rows = [i * maps.shape[2] // height for i in range(height)]
    columns = [j * maps.shape[3] // width for j in range(width)]
    return maps[:, :, rows][:, :, :, columns]


def around(maps: Tensor, weight: Tensor) -> Tensor:
    """Convolve 3x3 with zeros around."""
    height, width = maps.shape[-2:]
    padded = torch.zeros(*maps.shape[:2], height + 2, width + 2, dtype=maps.dtype)
    padded[:, :, 1:-1, 1:-1] = maps
    parts = [
        torch.einsum("nchw,oc->nohw", padded[:, :, i : i + height, j : j + width], weight[:, :, i, j])
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(parts).sum(0)


def test_forward__chain_of_two_stages_by_hand() -> None:
    torch.manual_seed(0)
    loss = ReviewKD(["a", "b"], ["c", "d"]).double()
    loss.prepare({"a": Spec((3, 4, 4)), "b": Spec((5,))}, {"c": Spec((2, 6, 6)), "d": Spec((4,))})
    loss.double()
    shallow, deep = torch.randn(3, 3, 4, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    goals = torch.randn(3, 2, 6, 6, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    w = {name: value.detach() for name, value in loss.review.named_parameters()}
    last = normed(torch.einsum("nchw,oc->nohw", deep[:, :, None, None], w["steps.1.enter.0.weight"][:, :, 0, 0]))
    outs = [normed(around(last, w["steps.1.leave.0.weight"]))]
    first = normed(torch.einsum("nchw,oc->nohw", shallow, w["steps.0.enter.0.weight"][:, :, 0, 0]))
    both = torch.cat([first, nearest(last, 4, 4)], 1)
    share = torch.einsum("nchw,oc->nohw", both, w["steps.0.attention.weight"][:, :, 0, 0])
    share = 1 / (1 + torch.exp(-share - w["steps.0.attention.bias"][:, None, None]))
    fused = nearest(first * share[:, :1] + nearest(last, 4, 4) * share[:, 1:], 6, 6)
    outs.insert(0, normed(around(fused, w["steps.0.leave.0.weight"])))
    expected = oracle(outs[0], goals[0]) + oracle(outs[1], goals[1][:, :, None, None])
    loss.float()
    zero, logits = torch.zeros(3, dtype=torch.int64), torch.zeros(3, 5)
    value = loss(
        Outputs(logits, {"a": shallow.float(), "b": deep.float()}),
        Outputs(logits, {"c": goals[0].float(), "d": goals[1].float()}),
        Batch(torch.zeros(3, 3, 4, 4), zero, zero, zero),
    )
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("mine, others", [(["a"], ["b", "c"]), ([], [])])
def test_init__taps_that_do_not_pair_up(mine: list[str], others: list[str]) -> None:
    with pytest.raises(ValueError, match="pair up"):
        ReviewKD(mine, others)


def test_prepare__tokens_without_a_grid() -> None:
    with pytest.raises(ValueError, match=r"'a' \(8, 4\) to 'b' \(3, 4, 4\)"):
        ReviewKD(["a"], ["b"]).prepare({"a": Spec((8, 4))}, {"b": Spec((3, 4, 4))})
