"""FT against loops over the factors, and what each of its two parts trains."""

import pytest
import torch
from torch import Tensor, nn

from distill.losses.ft import FT, ft
from distill.outputs import Batch, Outputs, Spec


def entries(factor: Tensor, strict_reference: bool) -> list[Tensor]:
    """Return the entries of one sample's factor ``(F, H, W)``, of unit length together."""
    if strict_reference:
        factor = sum(channel**2 for channel in factor) / len(factor)
    length = torch.sqrt(sum(v**2 for v in factor.flatten()))
    return [v / length for v in factor.flatten()]


def oracle(student: Tensor, teacher: Tensor, strict_reference: bool) -> Tensor:
    values = []
    for mine, other in zip(student, teacher, strict=True):
        pairs = zip(entries(mine, strict_reference), entries(other, strict_reference), strict=True)
        values += [abs(a - b) for a, b in pairs]
    return sum(values) / len(values)


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (3, 4, 2, 1)])
@pytest.mark.parametrize("strict_reference", [False, True])
def test_ft__value_and_gradient(shape: tuple[int, ...], strict_reference: bool) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value, expected = ft(student, teacher, strict_reference), oracle(exact, teacher.double(), strict_reference)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("strict_reference", [False, True])
def test_ft__ignores_the_length_of_a_factor(strict_reference: bool) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ft(5 * student, 0.1 * teacher, strict_reference), ft(student, teacher, strict_reference))
    assert ft(7 * teacher, teacher, strict_reference).item() == pytest.approx(0, abs=1e-7)


def test_ft__the_reference_sees_neither_order_nor_sign_of_channels() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 3, 4, 4)
    assert ft(-teacher.flip(1), teacher, strict_reference=True).item() == pytest.approx(0, abs=1e-7)
    assert ft(-teacher.flip(1), teacher) > 0.01


def trained_by(**arguments: float) -> tuple[set[str], FT, Tensor, Tensor]:
    """Return which modules got a gradient, the loss, its value and the student's feature."""
    torch.manual_seed(0)
    loss = FT("a", "b", **arguments)
    loss.prepare({"a": Spec((3, 4, 4))}, {"b": Spec((6, 4, 4))})
    feature, zero = torch.randn(2, 3, 4, 4, requires_grad=True), torch.zeros(2, dtype=torch.int64)
    student = Outputs(torch.zeros(2, 5), {"a": feature})
    teacher = Outputs(torch.zeros(2, 5), {"b": torch.randn(2, 6, 4, 4)})
    value = loss(student, teacher, Batch(torch.zeros(2, 3, 4, 4), zero, zero, zero))
    if value.requires_grad:
        value.backward()
    return {name.split(".")[0] for name, p in loss.named_parameters() if p.grad is not None}, loss, value, feature


def test_forward__first_stage_trains_the_paraphraser_alone() -> None:
    names, loss, value, feature = trained_by(factor=0.0, reconstruction=1.0)
    assert names == {"paraphraser", "restorer"}
    assert feature.grad is None
    target = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(1))
    assert value > 0
    assert loss.restorer(loss.paraphraser(target)).shape == target.shape


def test_forward__second_stage_trains_student_and_translator_alone() -> None:
    names, _, _, feature = trained_by(factor=1.0, reconstruction=0.0)
    assert names == {"translator"}
    assert feature.grad.abs().sum() > 0


def test_forward__both_at_once_add_up_and_the_paraphraser_learns_its_own_error_only() -> None:
    _, first, error, _ = trained_by(factor=0.0, reconstruction=1.0)
    _, _, distance, _ = trained_by(factor=1.0, reconstruction=0.0)
    names, both, total, _ = trained_by(factor=3.0, reconstruction=2.0)
    assert names == {"paraphraser", "restorer", "translator"}
    torch.testing.assert_close(total, 2 * error + 3 * distance)
    for one, other in zip(first.paraphraser.parameters(), both.paraphraser.parameters(), strict=True):
        torch.testing.assert_close(other.grad, 2 * one.grad)


def test_forward__neither_part() -> None:
    names, _, value, _ = trained_by(factor=0.0, reconstruction=0.0)
    assert not names
    assert value == 0


@pytest.mark.parametrize("rate, size", [(0.5, 3), (0.75, 4), (0.01, 1)])
def test_prepare__channels_of_a_factor(rate: float, size: int) -> None:
    loss = FT("a", "b", rate=rate)
    loss.prepare({"a": Spec((2, 4, 4))}, {"b": Spec((6, 4, 4))})
    assert loss.translator(torch.zeros(1, 2, 4, 4)).shape == (1, size, 4, 4)
    assert loss.paraphraser(torch.zeros(1, 6, 4, 4)).shape == (1, size, 4, 4)


def test_prepare__batch_norm_in_the_translator_of_the_reference_only() -> None:
    for strict_reference in (False, True):
        loss = FT("a", "b", strict_reference=strict_reference)
        loss.prepare({"a": Spec((2, 4, 4))}, {"b": Spec((6, 4, 4))})
        assert any(isinstance(m, nn.BatchNorm2d) for m in loss.translator.modules()) == strict_reference
        assert not any(isinstance(m, nn.BatchNorm2d) for m in loss.paraphraser.modules())


def test_prepare__one_position_in_the_reference() -> None:
    with pytest.raises(ValueError, match="needs more than one position"):
        FT("a", "b", strict_reference=True).prepare({"a": Spec((2, 1, 1))}, {"b": Spec((6, 4, 4))})


def test_init__rate() -> None:
    with pytest.raises(ValueError, match="rate must be above 0, got 0"):
        FT(rate=0.0)
