"""OFD: the two published forms of its distance against each other, and the margins against their closed form."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.ofd import OFD, negatives, ofd
from distill.outputs import Batch, Outputs, Spec


def three_parts(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Add the cases up as code with three indicators does, neuron by neuron."""
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in zip(student, teacher, strict=True):
        for c in range(len(mine)):
            m = margin[c]
            for s, t in zip(mine[c].flatten(), other[c].flatten(), strict=True):
                if t > 0 or (m < t <= 0 and s > t):
                    total = total + (s - t) ** 2
                elif t <= m and s > m:
                    total = total + (s - m) ** 2
    return total / len(student)


def cut_off(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Take the difference to the teacher cut off at the margin, as the authors' formula does."""
    goal = torch.where(teacher > margin[:, None, None], teacher, margin[:, None, None])
    return ((student - goal) ** 2 * ((student > goal) | (goal > 0))).sum() / len(student)


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (3, 4, 2, 1), (2, 3, 1, 1)])
@pytest.mark.parametrize("form", [three_parts, cut_off])
def test_ofd__value_and_gradient(shape: tuple[int, ...], form) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    margin = -torch.rand(shape[1])
    exact = student.detach().double().requires_grad_()
    value, expected = ofd(student, teacher, margin), form(exact, teacher.double(), margin.double())
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


def test_ofd__zero_at_the_teacher_and_wherever_both_are_below_the_margin() -> None:
    torch.manual_seed(0)
    teacher, margin = torch.randn(2, 3, 4, 4), torch.full((3,), -0.5)
    assert ofd(teacher, teacher, margin) == 0
    low = -0.5 - torch.rand(2, 3, 4, 4)
    assert ofd(low, -0.5 - torch.rand(2, 3, 4, 4), margin) == 0
    assert ofd(low, teacher.abs(), margin) > 0


def test_negatives__sum_and_number_by_channel() -> None:
    feature = torch.tensor([[[[1.0, -2.0]], [[0.0, 3.0]]], [[[-4.0, 5.0]], [[0.0, 0.0]]]])
    assert negatives(feature).tolist() == [[-6.0, 0.0], [2.0, 0.0]]


def outputs(features: dict[str, Tensor]) -> Outputs:
    return Outputs(torch.zeros(2, 5), features)


def batch() -> Batch:
    zero = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), zero, zero, zero)


def prepared(margin_batches: int = 100) -> OFD:
    loss = OFD(["a"], ["b"], margin_batches=margin_batches)
    loss.prepare({"a": Spec((2, 4, 4))}, {"b": Spec((3, 4, 4))})
    return loss


def test_margin__of_normal_values_is_that_of_the_batch_norm_in_closed_form() -> None:
    torch.manual_seed(0)
    means, stds = torch.tensor([0.0, 1.0, -0.5]), torch.tensor([1.0, 0.7, 2.0])
    loss = prepared()
    for _ in range(20):
        loss.observe(0, torch.randn(8, 3, 32, 32) * stds[:, None, None] + means[:, None, None])
    for found, mean, std in zip(loss.margin(0).tolist(), means.tolist(), stds.tolist(), strict=True):
        below = 0.5 * math.erfc(mean / std / math.sqrt(2))
        expected = mean - std * math.exp(-((mean / std) ** 2) / 2) / (math.sqrt(2 * math.pi) * below)
        assert found == pytest.approx(expected, rel=0.02)


def test_margin__comes_from_the_first_batches_and_stays() -> None:
    torch.manual_seed(0)
    loss, mine = prepared(margin_batches=2), outputs({"a": torch.randn(2, 2, 4, 4)})
    seen = [torch.randn(2, 3, 4, 4) for _ in range(4)]
    for teacher in seen:
        loss(mine, outputs({"b": teacher}), batch())
    both = torch.cat(seen[:2])
    for c in range(3):
        values = [v for v in both[:, c].flatten().tolist() if v < 0]
        assert loss.margin(0)[c].item() == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_margin__counts_the_values_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    here, there, alone, together = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4) - 1, prepared(), prepared()
    together.observe(0, torch.cat([here, there]))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda found: found.add_(negatives(there)))
    alone.observe(0, here)
    torch.testing.assert_close(alone.margin(0), together.margin(0))


def test_margin__channel_without_a_negative_value() -> None:
    loss = prepared()
    loss.observe(0, torch.rand(2, 3, 4, 4))
    assert loss.margin(0).tolist() == [0.0, 0.0, 0.0]


def test_state__estimate_goes_on_where_it_stopped() -> None:
    torch.manual_seed(0)
    mine, seen = outputs({"a": torch.randn(2, 2, 4, 4)}), [torch.randn(2, 3, 4, 4) for _ in range(4)]
    whole, first, second = (prepared(margin_batches=2) for _ in range(3))
    for teacher in seen:
        whole(mine, outputs({"b": teacher}), batch())
    first(mine, outputs({"b": seen[0]}), batch())
    second.load_state_dict(first.state_dict())
    for teacher in seen[1:]:
        second(mine, outputs({"b": teacher}), batch())
    assert torch.equal(second.margin(0), whole.margin(0))


def test_forward__larger_teacher_map_is_averaged() -> None:
    torch.manual_seed(0)
    large = torch.randn(2, 3, 8, 8)
    mine, values = outputs({"a": torch.randn(2, 2, 4, 4)}), []
    for teacher in (large, large.view(2, 3, 4, 2, 4, 2).mean((3, 5))):
        torch.manual_seed(1)
        values.append(prepared()(mine, outputs({"b": teacher}), batch()))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("name", ["decay", "margin_batches"])
def test_init__above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        OFD(**{name: 0})
