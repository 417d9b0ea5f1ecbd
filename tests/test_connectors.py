"""Connectors: which shapes meet, by what layer, and what refuses the others."""

import pytest
import torch
from torch import nn

from distill.connectors import KINDS, connect, fitting
from distill.connectors.abf import WIDEST
from distill.connectors.forms import Reform, grid_of, prefix_of, reformable
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


FORMS: list[Shape] = [(6, 8, 8), (6, 3, 5), (17, 6), (16, 6), (5, 6), (6,)]


@pytest.mark.parametrize("teacher", FORMS)
@pytest.mark.parametrize("student", FORMS)
def test_fitting__every_kind_gives_the_shape_of_the_teacher(student: Shape, teacher: Shape) -> None:
    kinds = fitting(Spec(student), Spec(teacher))
    assert "cross_attention" in kinds
    for kind in kinds:
        connector = joined(student, teacher, kind)
        assert connector(torch.randn(2, *student)).shape == (2, *teacher), kind
    for kind in set(KINDS) - set(kinds):
        with pytest.raises(ValueError, match=f"connector {kind} cannot join .* choose connector .*cross_attention"):
            joined(student, teacher, kind)


def test_connect__says_that_nothing_fits() -> None:
    assert fitting(Spec((3, 8, 8)), Spec((3, 8, 8, 2))) == []
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8, 2\); choose other taps, which no connector joins"):
        joined((3, 8, 8), (3, 8, 8, 2), "linear")


def test_fitting__spends_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fitting(Spec((3, 8, 8)), Spec((17, 5)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "spec, grid, prefix",
    [
        (Spec((16, 6)), (4, 4), 0),
        (Spec((17, 6)), (4, 4), 1),
        (Spec((198, 6)), (14, 14), 2),
        (Spec((201, 6)), (14, 14), 5),
        (Spec((9, 6)), (3, 3), 0),
        (Spec((9, 6), grid=(2, 4)), (2, 4), 1),
        (Spec((8, 6)), None, 0),
        (Spec((3, 8, 7)), (8, 7), 0),
        (Spec((6,)), None, 0),
    ],
)
def test_grid_of(spec: Spec, grid: tuple[int, int] | None, prefix: int) -> None:
    assert grid_of(spec) == grid
    assert prefix_of(spec) == prefix


def reformed(feature: torch.Tensor, student: Spec, teacher: Spec) -> torch.Tensor:
    assert reformable(student, teacher)
    found: torch.Tensor = Reform(student, teacher)(feature)
    return found


def test_reform__tokens_and_maps_row_by_row() -> None:
    tokens = torch.arange(2 * 7 * 3.0).view(2, 7, 3)
    spec, maps = Spec((7, 3), grid=(2, 3)), Spec((3, 2, 3))
    found = reformed(tokens, spec, maps)
    for i in range(2):
        for j in range(3):
            assert torch.equal(found[:, :, i, j], tokens[:, 1 + 3 * i + j])
    back = reformed(found, maps, spec)
    assert torch.equal(back[:, 1:], tokens[:, 1:])
    torch.testing.assert_close(back[:, 0], tokens[:, 1:].mean(1))  # a map has no class token: its mean stands in


def test_reform__vectors_are_the_class_token_or_the_mean() -> None:
    tokens, vector = torch.randn(2, 5, 3), Spec((9,))
    assert torch.equal(reformed(tokens, Spec((5, 3)), vector), tokens[:, 0])
    torch.testing.assert_close(reformed(tokens[:, 1:], Spec((4, 3)), vector), tokens[:, 1:].mean(1))
    torch.testing.assert_close(reformed(tokens, Spec((8, 3)), vector), tokens.mean(1))
    maps = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(reformed(maps, Spec((3, 4, 5)), vector), maps.mean((2, 3)))


def test_reform__grids_that_differ_are_resized() -> None:
    tokens = torch.randn(2, 1 + 16, 3)
    found = reformed(tokens, Spec((17, 3)), Spec((2 + 4, 9)))
    assert torch.equal(found[:, 0], tokens[:, 0])
    torch.testing.assert_close(found[:, 1], found[:, 2:].mean(1))
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    halved = reformed(ramp, Spec((1, 8, 8)), Spec((1, 4, 4)))
    # a triangle two wide each side: weights 1, 3, 3, 1 over 8 inside, cut off and scaled up at the border
    torch.testing.assert_close(halved[0, 0, 0], torch.tensor([5 / 7, 2.5, 4.5, 7 - 5 / 7]))
    doubled = reformed(ramp, Spec((1, 8, 8)), Spec((1, 16, 16)))
    assert doubled[0, 0, 3].tolist()[:4] == [0.0, 0.25, 0.75, 1.25]


def test_reformable__what_has_too_little() -> None:
    assert not reformable(Spec((6,)), Spec((3, 4, 4)))
    assert not reformable(Spec((8, 3)), Spec((3, 4, 4)))
    assert reformable(Spec((8, 3)), Spec((8, 5)))


@pytest.mark.parametrize("kind, layers", [("linear", 1), ("mlp", 2)])
def test_connect__linear_and_mlp_by_hand(kind: str, layers: int) -> None:
    torch.manual_seed(0)
    connector = joined((3, 4, 4), (17, 5), kind)
    parts = [m for m in connector.modules() if isinstance(m, nn.Linear)]
    assert len(parts) == layers
    feature = torch.randn(2, 3, 4, 4)
    for i in range(4):
        for j in range(4):
            value = feature[:, :, i, j] @ parts[0].weight.T + parts[0].bias
            if layers == 2:
                value = value.clamp(min=0) @ parts[1].weight.T + parts[1].bias
            torch.testing.assert_close(connector(feature)[:, 1 + 4 * i + j], value)


def test_connect__cross_attention_by_hand() -> None:
    torch.manual_seed(0)
    connector = joined((3, 2, 2), (6, 8), "cross_attention").double()
    parameters = {k: v.detach() for k, v in connector.named_parameters()}
    feature = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    tokens = torch.stack([feature[0, :, i, j] for i in range(2) for j in range(2)]) + parameters["places"]
    weights = [parameters[f"attention.{p}_proj_weight"] for p in "qkv"]
    biases = parameters["attention.in_proj_bias"].chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((parameters["queries"], tokens, tokens), weights, biases, strict=True))
    heads = []
    for h in range(8):
        scores = torch.exp(q[:, h : h + 1] @ k[:, h : h + 1].T)
        heads.append(scores / scores.sum(1, keepdim=True) @ v[:, h : h + 1])
    out = torch.cat(heads, 1) @ parameters["attention.out_proj.weight"].T + parameters["attention.out_proj.bias"]
    torch.testing.assert_close(connector(feature)[0], out)


def test_connect__abf_fuses_in_the_channels_of_the_student_up_to_a_limit() -> None:
    for inputs, middle in ((3, 3), (600, WIDEST)):
        connector = joined((inputs, 2, 2), (4, 3, 3), "abf")
        shapes = [tuple(m.weight.shape) for m in connector.modules() if isinstance(m, nn.Conv2d)]
        assert shapes == [(middle, inputs, 1, 1), (4, middle, 3, 3)]
