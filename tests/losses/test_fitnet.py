"""FitNet against loops over positions, with the connector set by hand."""

import pytest
import torch

from distill.losses.fitnet import FitNet, fitnet
from distill.outputs import Batch, Outputs, Spec


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (4, 5), (2, 6, 4)])
def test_fitnet__value_and_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    value = fitnet(student, teacher)
    value.backward()
    difference = (student - teacher).detach().double()
    count = len(difference.flatten().tolist())
    assert value.item() == pytest.approx(sum(d * d for d in difference.flatten().tolist()) / count, rel=1e-6)
    torch.testing.assert_close(student.grad.double(), 2 * difference / count, rtol=1e-5, atol=1e-7)


def batch() -> Batch:
    zero = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), zero, zero, zero)


def test_forward__identity_is_zero_at_the_teacher() -> None:
    loss = FitNet("a", "b", connector="identity")
    loss.prepare({"a": Spec((3, 4, 4))}, {"b": Spec((3, 4, 4))})
    feature = torch.randn(2, 3, 4, 4)
    logits = torch.zeros(2, 5)
    assert loss(Outputs(logits, {"a": feature}), Outputs(logits, {"b": feature}), batch()) == 0


def test_forward__linear_connector_set_by_hand() -> None:
    loss = FitNet("a", "b")
    loss.prepare({"a": Spec((2,))}, {"b": Spec((3,))})
    weight, bias = [[1.0, 2.0], [0.0, -1.0], [0.5, 0.5]], [0.0, 1.0, -1.0]
    with torch.no_grad():
        loss.get_parameter("connector.weight").copy_(torch.tensor(weight))
        loss.get_parameter("connector.bias").copy_(torch.tensor(bias))
    mine, other = [[1.0, -1.0], [2.0, 3.0]], [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    total = 0.0
    for row, goal in zip(mine, other, strict=True):
        for w, b, g in zip(weight, bias, goal, strict=True):
            total += (w[0] * row[0] + w[1] * row[1] + b - g) ** 2
    logits = torch.zeros(2, 5)
    value = loss(Outputs(logits, {"a": torch.tensor(mine)}), Outputs(logits, {"b": torch.tensor(other)}), batch())
    assert value.item() == pytest.approx(total / 6)


def test_prepare__tap_that_the_student_does_not_give() -> None:
    with pytest.raises(ValueError, match="the student gives no 'stage9'; it gives logits, stage1"):
        FitNet("stage9", "b").prepare({"logits": Spec((5,)), "stage1": Spec((3, 4, 4))}, {"b": Spec((3, 4, 4))})


def test_prepare__connector_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="connector must be one of regressor, projector, .*, got 'conv'"):
        FitNet("a", "b", connector="conv").prepare({"a": Spec((3,))}, {"b": Spec((3,))})
