"""AB against the two squared terms of equation 5, neuron by neuron."""

import pytest
import torch
from torch import Tensor, nn

from distill.losses.ab import AB, ab
from distill.outputs import Batch, Outputs, Spec


def oracle(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student.flatten(), teacher.flatten(), strict=True):
        if t <= 0 and s > -margin:
            total = total + (s + margin) ** 2
        if t > 0 and s <= margin:
            total = total + (s - margin) ** 2
    return total / len(student)


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (3, 4), (2, 5, 2, 1)])
@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_ab__value_and_gradient(shape: tuple[int, ...], margin: float) -> None:
    torch.manual_seed(0)
    student, teacher = (2 * torch.randn(shape)).requires_grad_(), torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value, expected = ab(student, teacher, margin), oracle(exact, teacher.double(), margin)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-5, atol=1e-7)


def test_ab__only_the_sign_of_the_teacher_counts_and_enough_is_enough() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ab(student, 100 * teacher, 1.0), ab(student, teacher, 1.0))
    assert ab(5 * teacher.sign(), teacher, 1.0) == 0
    assert ab(torch.zeros(2, 3), torch.randn(2, 3), 2.0) == 3 * 4


def batch() -> Batch:
    zero = torch.zeros(2, dtype=torch.int64)
    return Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), zero, zero, zero)


def test_forward__shallower_pairs_weigh_half() -> None:
    torch.manual_seed(0)
    names = ["one", "two", "three"]
    mine, other = ({k: torch.randn(2, 3, 4, 4) for k in names} for _ in range(2))
    loss = AB(names, names)
    loss.prepare(*({k: Spec((3, 4, 4)) for k in names} for _ in range(2)))
    assert all(isinstance(connector, nn.Identity) for connector in loss.connectors)
    value = loss(Outputs(torch.zeros(2, 5), mine), Outputs(torch.zeros(2, 5), other), batch())
    expected = sum(w * oracle(mine[k].double(), other[k], 1.0) for k, w in zip(names, (0.25, 0.5, 1), strict=True))
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)


def test_prepare__other_shapes_meet_by_a_pointwise_connector_without_relu() -> None:
    loss = AB(["a"], ["b"])
    loss.prepare({"a": Spec((3, 8, 8))}, {"b": Spec((5, 4, 4))})
    convolution, norm = loss.connectors[0].children()
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    feature = Outputs(torch.zeros(2, 5), {"a": torch.randn(2, 3, 8, 8)})
    assert loss(feature, Outputs(torch.zeros(2, 5), {"b": torch.randn(2, 5, 4, 4)}), batch()) > 0


@pytest.mark.parametrize("name", ["margin", "decay"])
def test_init__above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be above 0, got 0"):
        AB(**{name: 0.0})
