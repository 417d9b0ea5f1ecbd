"""Connectors: which shapes meet, by what layer, and what refuses the others."""

import pytest
import torch
from torch import nn

from distill.connectors import connect
from distill.outputs import Spec

Shape = tuple[int, ...]


def joined(student: Shape, teacher: Shape, kind: str) -> nn.Module:
    return connect(Spec(student), Spec(teacher), kind, "mine", "other")


@pytest.mark.parametrize(
    "kind, student, teacher, layer, kernel",
    [
        ("regressor", (3, 8, 8), (5, 8, 8), nn.Conv2d, (1, 1)),
        ("regressor", (3, 8, 8), (3, 8, 8), nn.Conv2d, (1, 1)),
        ("regressor", (3, 16, 16), (5, 8, 8), nn.Conv2d, (3, 3)),
        ("regressor", (3, 4, 4), (5, 8, 8), nn.ConvTranspose2d, (4, 4)),
        ("regressor", (3, 7, 7), (5, 4, 4), nn.Conv2d, (4, 4)),
        ("regressor", (3, 9, 6), (5, 4, 6), nn.Conv2d, (6, 1)),
        ("regressor", (3, 2, 4), (5, 1, 2), nn.Conv2d, (3, 3)),
        ("projector", (3, 8, 6), (5, 8, 6), nn.Conv2d, (1, 1)),
    ],
)
def test_connect__maps(kind: str, student: Shape, teacher: Shape, layer: type, kernel: tuple[int, int]) -> None:
    connector = joined(student, teacher, kind)
    assert connector(torch.randn(2, *student)).shape == (2, *teacher)
    first = connector.get_submodule("0")
    assert type(first) is layer
    assert first.kernel_size == kernel


@pytest.mark.parametrize("kind", ["regressor", "projector"])
@pytest.mark.parametrize("student, teacher", [((4,), (7,)), ((9, 4), (9, 7)), ((4,), (4,))])
def test_connect__tokens_and_vectors_by_a_linear_layer(kind: str, student: Shape, teacher: Shape) -> None:
    connector = joined(student, teacher, kind)
    assert isinstance(connector, nn.Linear)
    assert connector(torch.randn(2, *student)).shape == (2, *teacher)


@pytest.mark.parametrize("shape", [(4,), (9, 4), (3, 8, 8)])
def test_connect__identity_returns_its_input(shape: Shape) -> None:
    feature = torch.randn(2, *shape)
    connector = joined(shape, shape, "identity")
    assert connector(feature) is feature
    assert not list(connector.parameters())


@pytest.mark.parametrize(
    "kind, student, teacher",
    [
        ("regressor", (3, 4, 4), (5, 16, 16)),
        ("regressor", (3, 4, 8), (5, 8, 4)),
        ("regressor", (3, 5, 5), (5, 8, 8)),
        ("regressor", (3, 8, 8), (64, 5)),
        ("regressor", (9, 4), (10, 4)),
        ("projector", (3, 8, 8), (5, 4, 4)),
        ("projector", (3, 8, 8), (5,)),
        ("projector", (9, 4), (10, 4)),
        ("identity", (3, 8, 8), (5, 8, 8)),
        ("identity", (3, 8, 8), (192,)),
    ],
)
def test_connect__shapes_that_do_not_meet(kind: str, student: Shape, teacher: Shape) -> None:
    with pytest.raises(ValueError) as caught:
        joined(student, teacher, kind)
    message = str(caught.value)
    assert message.startswith(f"connector {kind} cannot join ")
    assert all(part in message for part in (str(student), str(teacher), "'mine'", "'other'", "choose"))
    assert "\n" not in message


def test_connect__unknown_kind() -> None:
    with pytest.raises(ValueError, match="connector must be one of regressor, projector, .*, got 'conv'"):
        joined((3, 8, 8), (3, 8, 8), "conv")


def test_connect__regressor_computes_convolution_batch_norm_relu() -> None:
    torch.manual_seed(0)
    connector = joined((3, 4, 4), (5, 4, 4), "regressor").double()
    feature = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    weight, bias = connector.get_parameter("0.weight")[:, :, 0, 0], connector.get_parameter("0.bias")
    mapped = torch.stack(
        [
            torch.stack([weight @ feature[n, :, i, j] + bias for i in range(4) for j in range(4)], 1).view(5, 4, 4)
            for n in range(2)
        ]
    )
    out = torch.empty_like(mapped)
    for c in range(5):
        values = mapped[:, c].flatten()
        variance = ((values - values.mean()) ** 2).mean()
        out[:, c] = ((mapped[:, c] - values.mean()) / torch.sqrt(variance + 1e-5)).clamp(min=0)
    torch.testing.assert_close(connector(feature), out)


@pytest.mark.parametrize("kind", ["regressor", "projector"])
def test_connect__one_sample_of_one_pixel_in_training(kind: str) -> None:
    connector = joined((3, 1, 1), (5, 1, 1), kind).train()
    feature = torch.randn(1, 3, 1, 1, requires_grad=True)
    before = {k: v.clone() for k, v in connector.named_buffers()}
    value = connector(feature).sum()
    value.backward()
    assert value.isfinite()
    assert feature.grad is not None
    assert feature.grad.isfinite().all()
    assert all(torch.equal(v, before[k]) for k, v in connector.named_buffers())
