"""LSKD against loops, its invariances, and what it hands on to the loss inside."""

from typing import Any

import pytest
import torch
from torch import Tensor

from distill.losses.base import Loss
from distill.losses.ce import CE
from distill.losses.dist import DIST
from distill.losses.dkd import DKD, dkd
from distill.losses.fitnet import FitNet
from distill.losses.kd import KD, kd
from distill.losses.lskd import LSKD, standardize
from distill.losses.nkd import NKD
from distill.objective import Objective
from distill.outputs import Batch, Outputs, Spec, TrainingSet
from distill.schedules.base import Progress
from distill.schedules.linear import Linear

from .naive import check, rows


def batch(n: int) -> Batch:
    index = torch.arange(n)
    return Batch(torch.zeros(n, 1, 2, 2), index % 3, index, 0 * index)


def z_scores(logits: Tensor) -> Tensor:
    scored = []
    for row in logits:
        mean = sum(row) / len(row)
        std = torch.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - 1))
        scored.append(torch.stack([(z - mean) / (std + 1e-7) for z in row]))
    return torch.stack(scored)


@pytest.mark.parametrize("shape", [(1, 3), (4, 5), (3, 17)])
@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_lskd__value_and_gradient_with_kd(shape: tuple[int, int], temperature: float) -> None:
    def oracle(student: Tensor, teacher: Tensor, target: list[int]) -> Tensor:
        p, q = rows(z_scores(teacher), temperature), rows(z_scores(student), temperature)
        pairs = [(a, b) for left, right in zip(p, q, strict=True) for a, b in zip(left, right, strict=True)]
        return temperature**2 * sum(a * torch.log(a / b) for a, b in pairs) / len(target)

    loss = LSKD(KD(temperature=temperature))
    check(lambda s, t, y: loss(Outputs(s), Outputs(t), batch(len(y))), oracle, shape)


@pytest.mark.parametrize("inner", [KD(2.0), DKD(2.0), DIST(2.0), NKD(2.0)])
def test_lskd__shift_and_positive_scale_of_a_sample_change_nothing(inner: Loss) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 6), torch.randn(4, 6)
    scale, shift = torch.tensor([[0.5], [1.0], [3.0], [20.0]]), torch.tensor([[5.0], [-3.0], [0.0], [40.0]])
    loss = LSKD(inner)
    moved = loss(Outputs(scale * student + shift), Outputs(teacher * 7 - 1), batch(4))
    torch.testing.assert_close(moved, loss(Outputs(student), Outputs(teacher), batch(4)), rtol=1e-4, atol=1e-5)


def test_lskd__with_dkd_inside_is_dkd_of_standardised_logits() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    value = LSKD(DKD(temperature=2.0, alpha=1.0, beta=8.0))(Outputs(student), Outputs(teacher), batch(5))
    expected = dkd(z_scores(student.double()), z_scores(teacher.double()), batch(5).target, 2.0, 1.0, 8.0)
    torch.testing.assert_close(value, expected.float(), rtol=1e-5, atol=1e-6)


def test_standardize__mean_0_and_unbiased_variance_1() -> None:
    scored = standardize(3 * torch.randn(4, 9) + 2)
    torch.testing.assert_close(scored.mean(1), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(scored.var(1), torch.ones(4))


def test_standardize__equal_logits_have_a_finite_gradient() -> None:
    logits = torch.ones(2, 4, requires_grad=True)
    standardize(logits)[0, 0].backward()
    torch.testing.assert_close(logits.grad[0], 1e7 * torch.tensor([0.75, -0.25, -0.25, -0.25]))


def test_objective__moves_the_temperature_of_the_loss_inside() -> None:
    objective = Objective({"lskd": LSKD(KD(temperature=Linear(start=4.0, end=2.0)))}, {"lskd": 1.0})
    objective.set_progress(Progress(0.5))
    assert objective.values == {"lskd.loss.temperature": 3.0}
    student, teacher = torch.randn(4, 3), torch.randn(4, 3)
    _, values = objective(Outputs(student), Outputs(teacher), batch(4))
    torch.testing.assert_close(values[0], kd(standardize(student), standardize(teacher), 3.0))


def test_lskd__hands_on_what_the_loss_inside_says() -> None:
    class Told(FitNet):
        seen: Any = None

        def meet(self, data: TrainingSet) -> None:
            self.seen = data

    inner = Told(student_tap="stage1", teacher_tap="stage3", connector="projector")
    loss, data = LSKD(inner), TrainingSet(torch.zeros(3), 3)
    loss.meet(data)
    assert inner.seen is data
    assert (loss.student_taps(), loss.teacher_taps()) == (("stage1",), ("stage3",))
    shapes = {"logits": Spec((3,)), "stage1": Spec((4, 2, 2)), "stage3": Spec((5, 2, 2))}
    loss.prepare(shapes, shapes)
    assert any(name.startswith("loss.connector.") for name in loss.state_dict())
    assert (loss.reads_teacher, loss.mixes) == (True, True)
    assert not LSKD(DKD()).mixes
    assert not LSKD(CE()).reads_teacher
    assert LSKD(CE())(Outputs(torch.randn(4, 3)), None, batch(4)).isfinite()


def test_prepare__one_class() -> None:
    with pytest.raises(ValueError, match="LSKD compares a class with the others and needs at least 2 classes, got 1"):
        LSKD(KD()).prepare({"logits": Spec((1,))}, {"logits": Spec((1,))})


def test_init__eps() -> None:
    with pytest.raises(ValueError, match="eps must be above 0, got 0"):
        LSKD(KD(), eps=0.0)
