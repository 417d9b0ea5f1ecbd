"""Feature distances against loops over positions and channels."""

import pytest
import torch
from torch import Tensor

from distill.losses.feature import Feature, feature
from distill.outputs import Spec


def rows(x: Tensor) -> Tensor:
    """Return the vectors over channels ``(R, C)`` of a map, of tokens or of vectors."""
    return (x.movedim(1, -1) if x.dim() == 4 else x).flatten(0, -2)


def oracle(student: Tensor, teacher: Tensor, distance: str, beta: float) -> Tensor:
    values = []
    for s, t in zip(rows(student), rows(teacher), strict=True):
        if distance == "cosine":
            dot = sum(a * b for a, b in zip(s, t, strict=True))
            values.append(1 - dot / torch.sqrt(sum(a * a for a in s) * sum(b * b for b in t)))
            continue
        for a, b in zip(s, t, strict=True):
            d = abs(a - b)
            small = d**2 if distance == "l2" else d**2 / (2 * beta)
            values.append(small if distance == "l2" or d < beta else d - beta / 2)
    return sum(values) / len(values)


@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (2, 4, 3), (3, 5)])
@pytest.mark.parametrize("distance, beta", [("l2", 1.0), ("cosine", 1.0), ("smooth_l1", 1.0), ("smooth_l1", 0.3)])
def test_feature__value_and_gradient(shape: tuple[int, ...], distance: str, beta: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value = feature(student, teacher, distance, beta)
    expected = oracle(exact, teacher.double(), distance, beta)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)
    assert feature(teacher, teacher, distance, beta).item() == pytest.approx(0, abs=1e-6)


def test_feature__cosine_is_blind_to_length() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    plain = feature(student, teacher, "cosine")
    torch.testing.assert_close(feature(9 * student, 0.1 * teacher, "cosine"), plain)
    torch.testing.assert_close(feature(-student, teacher, "cosine"), 2 - plain)


def test_init__distance() -> None:
    with pytest.raises(ValueError, match="distance must be one of l2, cosine, smooth_l1, got 'l1'"):
        Feature(distance="l1")
    with pytest.raises(ValueError, match="beta must be above 0, got 0"):
        Feature(distance="smooth_l1", beta=0.0)


def test_prepare__connector_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="connector identity cannot join student tap 'a'"):
        Feature(["a"], ["b"], connector="identity").prepare({"a": Spec((3,))}, {"b": Spec((4,))})
