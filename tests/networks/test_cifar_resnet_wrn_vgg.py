"""Tests of the CIFAR networks of the CRD tables; sizes and names are those of RepDistiller for 100 classes."""

import pytest
import torch
from hydra.utils import get_method
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distill.config import compose, resolved
from distill.networks.cifar import resnet, vgg, wrn
from distill.outputs import InputSpec
from distill.taps import Tapped

# name: (parameters, keys of the state dict, millions of multiply-accumulates at 32x32 where measured elsewhere)
SIZES = {
    "resnet8": (83_892, 56, None),
    "resnet14": (181_108, 92, None),
    "resnet20": (278_324, 128, 40.8),
    "resnet32": (472_756, 200, 69.1),
    "resnet44": (667_188, 272, None),
    "resnet56": (861_620, 344, 125.8),
    "resnet110": (1_736_564, 668, 253.2),
    "resnet8x4": (1_233_540, 62, 177.07),
    "resnet32x4": (7_433_860, 206, 1083.04),
    "wrn_16_1": (180_916, 82, None),
    "wrn_16_2": (703_284, 83, 101.1),
    "wrn_40_1": (569_780, 226, 83.3),
    "wrn_40_2": (2_255_156, 227, 327.6),
    "vgg8": (3_965_028, 37, 96.2),
    "vgg11": (9_277_284, 58, None),
    "vgg13": (9_462_180, 72, 284.9),
    "vgg16": (14_774_436, 93, None),
    "vgg19": (20_086_692, 114, None),
}
MODULES = {"resnet": resnet, "wrn": wrn, "vgg": vgg}
MACS = {name: macs for name, (_, _, macs) in SIZES.items() if macs is not None}
SMALL = ["resnet8", "resnet8x4", "wrn_16_1", "vgg8"]


def family(name):
    return next(f for f in MODULES if name.startswith(f))


def build(name, num_classes=100, channels=3):
    return getattr(MODULES[family(name)], name)(num_classes, channels)


def on_meta(name, **sizes):
    """Build without memory or random numbers, enough for shapes and counts."""
    with torch.device("meta"):
        return build(name, **sizes)


def tapped(network, channels=3):
    return Tapped(network, InputSpec((0.5,) * channels, (0.25,) * channels), list(network.taps))


@pytest.fixture(scope="module", params=SMALL)
def outputs(request):
    """A small network with moved batch-norm statistics, and what it returns for two images."""
    torch.manual_seed(0)
    network = build(request.param)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias):
                nn.init.uniform_(values, -0.5, 0.5)
            for values in (module.running_var, module.weight):
                nn.init.uniform_(values, 0.5, 1.5)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        return network, tapped(network).eval()(images)


@pytest.mark.parametrize("name", SIZES)
def test_builders__have_the_published_size(name):
    network = on_meta(name)
    parameters, keys, _ = SIZES[name]
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert len(network.state_dict()) == keys


@pytest.mark.parametrize("name", MACS)
def test_builders__cost_the_published_operations(name):
    network = on_meta(name).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 32, 32, device="meta"))
    decimals = 2 if name.endswith("x4") else 1
    assert round(counter.get_total_flops() / 2e6, decimals) == MACS[name]


@pytest.mark.parametrize(
    "name, key, shape",
    [
        ("resnet20", "bn1.num_batches_tracked", ()),
        ("resnet20", "layer1.2.bn2.running_var", (16,)),
        ("resnet20", "layer2.0.conv1.weight", (32, 16, 3, 3)),
        ("resnet20", "layer2.0.downsample.0.weight", (32, 16, 1, 1)),
        ("resnet20", "layer3.0.downsample.1.bias", (64,)),
        ("resnet20", "fc.weight", (100, 64)),
        ("resnet8x4", "conv1.weight", (32, 3, 3, 3)),
        ("resnet8x4", "layer1.0.downsample.0.weight", (64, 32, 1, 1)),
        ("wrn_16_2", "block1.layer.0.bn1.weight", (16,)),
        ("wrn_16_2", "block1.layer.0.convShortcut.weight", (32, 16, 1, 1)),
        ("wrn_16_2", "block3.layer.1.conv2.weight", (128, 128, 3, 3)),
        ("wrn_16_2", "bn1.running_mean", (128,)),
        ("wrn_16_2", "fc.bias", (100,)),
        ("vgg13", "block0.0.bias", (64,)),
        ("vgg13", "block2.3.weight", (256, 256, 3, 3)),
        ("vgg13", "block4.4.running_var", (512,)),
        ("vgg13", "classifier.weight", (100, 512)),
    ],
)
def test_builders__name_weights_as_the_public_checkpoints(name, key, shape):
    assert tuple(on_meta(name).state_dict()[key].shape) == shape


def test_wrn__has_no_shortcut_where_channels_stay():
    # 16 channels in and out of the first stage of widening factor 1
    assert not [key for key in on_meta("wrn_16_1").state_dict() if "block1" in key and "Shortcut" in key]


@pytest.mark.parametrize("name", SIZES)
def test_taps__have_the_documented_shapes(name):
    first, sizes = {
        "resnet": ((16, 32), [(16, 32), (32, 16), (64, 8)]),
        "wrn": ((16, 32), [(16, 32), (32, 16), (64, 8)]),
        "vgg": ((64, 32), [(128, 16), (256, 8), (512, 4), (512, 4)]),
    }[family(name)]
    if name.endswith("x4"):
        first, sizes = (32, 32), [(4 * c, s) for c, s in sizes]
    if name in ("wrn_16_2", "wrn_40_2"):
        sizes = [(2 * c, s) for c, s in sizes]
    expected = {"logits": (100,), "stem": (first[0], first[1], first[1]), "pooled": (sizes[-1][0],)}
    for i, (channels, side) in enumerate(sizes, 1):
        expected[f"stage{i}"] = expected[f"stage{i}_preact"] = (channels, side, side)
    expected["final"] = expected[f"stage{len(sizes)}"]
    with torch.device("meta"):
        found = tapped(build(name)).specs((3, 32, 32))
    assert {tap: spec.shape for tap, spec in found.items()} == expected


def test_taps__pooled_is_what_the_classifier_reads(outputs):
    network, found = outputs
    head = network.classifier if isinstance(network, vgg.VGG) else network.fc
    torch.testing.assert_close(found.features["pooled"], found.features["final"].mean((2, 3)))
    torch.testing.assert_close(found.logits, F.linear(found.features["pooled"], head.weight, head.bias))


def test_taps__preact_leads_to_the_features_after_it(outputs):
    network, features = outputs[0], outputs[1].features
    stages = sorted(tap for tap in features if tap.startswith("stage") and not tap.endswith("_preact"))
    last = features[stages[-1]]
    if isinstance(network, wrn.WideResNet):
        followers = (network.block2.layer[0].bn1, network.block3.layer[0].bn1, network.bn1)
        for stage, bn in zip(stages, followers, strict=True):
            mean, var, gain, bias = (v.view(-1, 1, 1) for v in (bn.running_mean, bn.running_var, bn.weight, bn.bias))
            expected = (features[stage] - mean) / (var + bn.eps).sqrt() * gain + bias
            torch.testing.assert_close(features[f"{stage}_preact"], expected, rtol=1e-5, atol=1e-5)
        last = features[f"{stages[-1]}_preact"].clamp(min=0)
    else:
        assert features["stem"].min() >= 0
        for stage in stages:
            assert features[f"{stage}_preact"].min() < 0
            torch.testing.assert_close(features[stage], features[f"{stage}_preact"].clamp(min=0), rtol=0, atol=0)
    torch.testing.assert_close(features["pooled"], last.mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_basic_block__adds_the_shortcut_before_the_relu():
    torch.manual_seed(0)
    block = resnet.BasicBlock(4, 8, 2).eval()
    x = torch.randn(2, 4, 6, 6)
    scale = (1 + block.bn1.eps) ** -0.5  # batch norm as initialised
    inner = (F.conv2d(x, block.conv1.weight, stride=2, padding=1) * scale).clamp(min=0)
    branch = F.conv2d(inner, block.conv2.weight, padding=1) * scale
    expected = (branch + F.conv2d(x, block.downsample[0].weight, stride=2) * scale).clamp(min=0)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("inputs, stride", [(8, 1), (4, 2)])
def test_preact_block__shortcut_starts_after_the_activation_where_channels_change(inputs, stride):
    torch.manual_seed(0)
    block = wrn.PreActBlock(inputs, 8, stride).eval()
    x = torch.randn(2, inputs, 6, 6)
    scale = (1 + block.bn1.eps) ** -0.5
    active = (x * scale).clamp(min=0)
    inner = (F.conv2d(active, block.conv1.weight, stride=stride, padding=1) * scale).clamp(min=0)
    branch = F.conv2d(inner, block.conv2.weight, padding=1)
    shortcut = x if inputs == 8 else F.conv2d(active, block.convShortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), shortcut + branch)


@pytest.mark.parametrize("name", SMALL)
def test_builders__initialise_convolutions_by_fan_out(name):
    torch.manual_seed(0)
    network = build(name, 1000)
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels < m.out_channels]
    largest = max(convs, key=lambda m: m.weight.numel())
    expected = (2 / (9 * largest.out_channels)) ** 0.5
    assert largest.weight.std().item() == pytest.approx(expected, rel=0.02)
    if name == "vgg8":
        assert largest.bias.abs().max() == 0
        assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert network.classifier.bias.abs().max() == 0
    if name == "wrn_16_1":
        assert network.fc.bias.abs().max() == 0


@pytest.mark.parametrize("name", SMALL)
def test_builders__take_grey_images_and_other_sizes(name):
    with torch.device("meta"):
        found = tapped(build(name, 7, 1), 1).specs((1, 28, 28))
    assert found["logits"].shape == (7,)


@pytest.mark.parametrize("size", [32, 64])
def test_vgg__last_stage_is_4x4(size):
    with torch.device("meta"):
        found = tapped(build("vgg8")).specs((3, size, size))
    assert found["stage4"].shape == (512, 4, 4)
    assert found["stage3"].shape == (512, size // 8, size // 8)


@pytest.mark.parametrize("name", SMALL)
def test_builders__every_weight_gets_a_gradient(name):
    torch.manual_seed(0)
    network = build(name, 3)
    F.cross_entropy(network(torch.randn(2, 3, 16, 16)), torch.tensor([0, 2])).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("depth", [2, 10, 18])
def test_resnet__wrong_depth_is_refused(depth):
    with pytest.raises(ValueError, match=f"depth={depth} .* 6n \\+ 2: 8, 14, 20"):
        resnet.ResNet(depth, (16, 16, 32, 64), 10, 3)


@pytest.mark.parametrize("depth", [4, 20])
def test_wide_resnet__wrong_depth_is_refused(depth):
    with pytest.raises(ValueError, match=f"depth={depth} .* 6n \\+ 4: 10, 16, 22"):
        wrn.WideResNet(depth, 1, 10, 3)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.slow
def test_configs__are_student_and_teacher_of_the_same_network(name):
    cfg = resolved(compose(["dataset=cifar100", f"student={name}", f"teacher=[{name}]"]))
    target = f"distill.networks.cifar.{family(name)}.{name}"
    assert cfg["student"] == {"_target_": target, "num_classes": 100, "channels": 3}
    assert cfg["teacher"][name]["network"] == cfg["student"]
    assert get_method(target) is getattr(MODULES[family(name)], name)
