"""Taps read what the network computed, by any of its names, and refuse what is not there."""

import pytest
import torch
from torch import nn

from distill.networks.digits import digits_cnn
from distill.outputs import InputSpec
from distill.taps import Tapped, tap_shapes

SPEC = InputSpec((0.2,), (0.5,))


def test_tapped__features_equal_a_manual_forward() -> None:
    torch.manual_seed(0)
    net = digits_cnn(4, 10).eval()
    tapped = Tapped(net, SPEC, ["stage1", "pooled", "classifier:in", "stage2.0"]).eval()
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    outputs = tapped(images)
    x = (images.float() / 255 - 0.2) / 0.5
    stage1 = net.stage1(x)
    stage2 = net.stage2(net.pool(stage1))
    torch.testing.assert_close(outputs.features["stage1"], stage1)
    torch.testing.assert_close(outputs.features["pooled"], stage2.mean((2, 3)))
    assert torch.equal(outputs.features["classifier:in"], outputs.features["pooled"])
    torch.testing.assert_close(outputs.features["stage2.0"], net.stage2[0](net.pool(stage1)))
    torch.testing.assert_close(outputs.logits, net(x))


def test_normalize__uint8_and_float_pixels_agree() -> None:
    tapped = Tapped(nn.Identity(), InputSpec((0.1, 0.5, 0.9), (0.2, 0.3, 0.4)))
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    expected = (pixels.double() / 255 - torch.tensor([0.1, 0.5, 0.9]).view(-1, 1, 1)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(-1, 1, 1)
    torch.testing.assert_close(tapped.normalize(pixels).double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(tapped.normalize(pixels.float() / 255), tapped.normalize(pixels))


def test_normalize__resizes_to_the_size_the_network_wants() -> None:
    tapped = Tapped(nn.Identity(), InputSpec((0.0,), (1.0,), (16, 16)))
    constant = torch.full((1, 1, 8, 8), 51, dtype=torch.uint8)
    torch.testing.assert_close(tapped.normalize(constant), torch.full((1, 1, 16, 16), 0.2))


def test_tapped__an_unknown_tap_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no tap 'stage3' in DigitsCNN; nearest: .*stage2"):
        Tapped(digits_cnn(4, 10), SPEC, ["stage3"])


def test_specs__a_value_overwritten_in_place_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(10))
    net(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="tap '0' .* overwritten in place"):
        Tapped(net, SPEC, ["0"]).specs((1, 8, 8))
    assert Tapped(net, SPEC, ["1"]).specs((1, 8, 8))["1"].shape == (2, 6, 6)


def test_specs__shapes_without_the_batch_and_the_mode_kept() -> None:
    tapped = Tapped(digits_cnn(4, 10), SPEC, ["stage1", "stage2", "pooled"]).train()
    before = {k: v.clone() for k, v in tapped.state_dict().items()}
    shapes = {k: v.shape for k, v in tapped.specs((1, 8, 8)).items()}
    assert shapes == {"logits": (10,), "stage1": (4, 8, 8), "stage2": (8, 4, 4), "pooled": (8,)}
    assert tapped.training
    assert all(torch.equal(v, before[k]) for k, v in tapped.state_dict().items())


def test_tap_shapes__lists_published_taps_first() -> None:
    found = tap_shapes(digits_cnn(4, 10), SPEC, (1, 8, 8))
    assert list(found)[:4] == ["stage1", "stage2", "final", "pooled"]
    assert found["classifier"] == ("classifier", (10,))
