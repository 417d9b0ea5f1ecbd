"""Tests of the mobile networks and ResNet50 of the CRD tables; sizes and names are RepDistiller's for 100 classes."""

import math

import pytest
import torch
from hydra.utils import get_method
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distill.config import compose, resolved
from distill.networks.cifar import mobilenetv2, resnet50, shufflenetv1, shufflenetv2
from distill.outputs import InputSpec
from distill.taps import Tapped

# name: (parameters, millions of multiply-accumulates at 32x32, measured elsewhere)
SIZES = {
    "mobilenetv2": (812_836, 6.5),
    "shufflenetv1": (949_258, 38.7),
    "shufflenetv2": (1_355_528, 44.5),
    "resnet50": (23_705_252, 1298.0),
}
# name: shapes of the stem, of the stages, and of the pooled vector
SHAPES = {
    "mobilenetv2": [(16, 16), (12, 16), (16, 8), (48, 4), (160, 2), 1280],
    "shufflenetv1": [(24, 32), (240, 16), (480, 8), (960, 4), 960],
    "shufflenetv2": [(24, 32), (116, 16), (232, 8), (464, 4), 1024],
    "resnet50": [(64, 32), (256, 32), (512, 16), (1024, 8), (2048, 4), 2048],
}
AVERAGED = {"mobilenetv2": "conv2", "shufflenetv1": "layer3", "shufflenetv2": "relu2", "resnet50": "layer4"}
MODULES = {
    "mobilenetv2": mobilenetv2,
    "shufflenetv1": shufflenetv1,
    "shufflenetv2": shufflenetv2,
    "resnet50": resnet50,
}


def build(name, num_classes=100, channels=3):
    return getattr(MODULES[name], name)(num_classes, channels)


def on_meta(name, **sizes):
    """Build without memory or random numbers, enough for shapes and counts."""
    with torch.device("meta"):
        return build(name, **sizes)


def tapped(network, channels=3, extra=()):
    return Tapped(network, InputSpec((0.5,) * channels, (0.25,) * channels), [*network.taps, *extra])


def move_batch_norms(network):
    """Give batch norms statistics and weights that a trained network could have, so that each one matters."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias):
                nn.init.uniform_(values, -0.5, 0.5)
            for values in (module.running_var, module.weight):
                nn.init.uniform_(values, 0.5, 1.5)
    return network.double().eval()


@pytest.fixture(scope="module", params=SIZES)
def outputs(request):
    """A network, and what it returns for two images."""
    torch.manual_seed(0)
    network = move_batch_norms(build(request.param))
    extra = [AVERAGED[request.param]]
    with torch.no_grad():
        return request.param, network, tapped(network, extra=extra).double()(torch.rand(2, 3, 32, 32).double())


def layer(conv, bn, inputs, outputs, kernel=1):
    """Return the weights of a convolution without bias, of ``inputs`` channels a group, and of its batch norm."""
    found = {f"{conv}.weight": (outputs, inputs, kernel, kernel)}
    found |= {f"{bn}.{key}": (outputs,) for key in ("weight", "bias", "running_mean", "running_var")}
    return found | {f"{bn}.num_batches_tracked": ()}


def numbered(prefix, *convs):
    """Return the weights of layers conv1, bn1, conv2, bn2, ... under a prefix."""
    found = {}
    for i, conv in enumerate(convs, 1):
        found |= layer(f"{prefix}conv{i}", f"{prefix}bn{i}", *conv)
    return found


def mobilenetv2_weights():
    expected = layer("conv1.0", "conv1.1", 3, 16, 3)
    group = {0: [(16, 16, 8)], 1: [(8, 48, 12), (12, 72, 12)], 2: [(12, 72, 16)] + [(16, 96, 16)] * 2}
    group |= {3: [(16, 96, 32)] + [(32, 192, 32)] * 3, 4: [(32, 192, 48)] + [(48, 288, 48)] * 2}
    group |= {5: [(48, 288, 80)] + [(80, 480, 80)] * 2, 6: [(80, 480, 160)]}
    for i, blocks in group.items():
        for j, (inputs, hidden, outputs) in enumerate(blocks):
            at = f"blocks.{i}.{j}.conv"
            expected |= layer(f"{at}.0", f"{at}.1", inputs, hidden)
            expected |= layer(f"{at}.3", f"{at}.4", 1, hidden, 3)
            expected |= layer(f"{at}.6", f"{at}.7", hidden, outputs)
    expected |= layer("conv2.0", "conv2.1", 160, 1280)
    return expected | {"classifier.0.weight": (100, 1280), "classifier.0.bias": (100,)}


def shufflenetv1_weights():
    expected = numbered("", (3, 24))
    # first unit of a stage: inputs a group, middle, outputs of the branch = stage - inputs
    for i, units, first, width in [
        (1, 4, (24, 54, 216), 240),
        (2, 8, (80, 60, 240), 480),
        (3, 4, (160, 120, 480), 960),
    ]:
        for j in range(units):
            inputs, middle, outputs = (width // 3, width // 4, width) if j else first
            convs = (inputs, middle), (1, middle, 3), (middle // 3, outputs)
            expected |= numbered(f"layer{i}.{j}.", *convs)
    return expected | {"linear.weight": (100, 960), "linear.bias": (100,)}


def shufflenetv2_weights():
    expected = numbered("", (3, 24))
    for i, units, inputs, half in [(1, 3, 24, 58), (2, 7, 116, 116), (3, 3, 232, 232)]:
        down = (1, inputs, 3), (inputs, half), (inputs, half), (1, half, 3), (half, half)
        expected |= numbered(f"layer{i}.0.", *down)
        for j in range(1, units + 1):
            expected |= numbered(f"layer{i}.{j}.", (half, half), (1, half, 3), (half, half))
    expected |= layer("conv2", "bn2", 464, 1024)
    return expected | {"linear.weight": (100, 1024), "linear.bias": (100,)}


def resnet50_weights():
    expected = numbered("", (3, 64, 3))
    for i, blocks, first, width in [(1, 3, 64, 64), (2, 4, 256, 128), (3, 6, 512, 256), (4, 3, 1024, 512)]:
        for j in range(blocks):
            inputs = 4 * width if j else first
            expected |= numbered(f"layer{i}.{j}.", (inputs, width), (width, width, 3), (width, 4 * width))
        expected |= layer(f"layer{i}.0.shortcut.0", f"layer{i}.0.shortcut.1", first, 4 * width)
    return expected | {"linear.weight": (100, 2048), "linear.bias": (100,)}


WEIGHTS = {
    "mobilenetv2": mobilenetv2_weights,
    "shufflenetv1": shufflenetv1_weights,
    "shufflenetv2": shufflenetv2_weights,
    "resnet50": resnet50_weights,
}


@pytest.mark.parametrize("name", SIZES)
def test_builders__have_the_published_size(name):
    assert sum(p.numel() for p in on_meta(name).parameters()) == SIZES[name][0]


@pytest.mark.parametrize("name", SIZES)
def test_builders__cost_the_published_operations(name):
    network = on_meta(name).eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, 32, 32, device="meta"))
    assert round(counter.get_total_flops() / 2e6, 0 if name == "resnet50" else 1) == SIZES[name][1]


@pytest.mark.parametrize("name", SIZES)
def test_builders__name_weights_as_the_public_checkpoints(name):
    assert {key: tuple(value.shape) for key, value in on_meta(name).state_dict().items()} == WEIGHTS[name]()


@pytest.mark.parametrize("name", SIZES)
def test_taps__have_the_documented_shapes(name):
    stem, *stages, pooled = SHAPES[name]
    expected = {"logits": (100,), "stem": (stem[0], stem[1], stem[1]), "pooled": (pooled,)}
    for i, (channels, side) in enumerate(stages, 1):
        expected[f"stage{i}"] = expected[f"stage{i}_preact"] = (channels, side, side)
    averaged = AVERAGED[name]
    expected[averaged] = expected["final"] = (pooled, stages[-1][1], stages[-1][1])
    with torch.device("meta"):
        found = tapped(build(name), extra=[averaged]).specs((3, 32, 32))
    assert {tap: spec.shape for tap, spec in found.items()} == expected


def test_taps__pooled_is_the_averaged_map_and_what_the_classifier_reads(outputs):
    name, network, found = outputs
    head = network.classifier[0] if name == "mobilenetv2" else network.linear
    torch.testing.assert_close(found.features["final"], found.features[AVERAGED[name]], rtol=0, atol=0)
    torch.testing.assert_close(found.features["pooled"], found.features["final"].mean((2, 3)))
    torch.testing.assert_close(found.logits, F.linear(found.features["pooled"], head.weight, head.bias))


def test_taps__preact_leads_to_the_features_after_it(outputs):
    name, _, found = outputs
    features = found.features
    assert features["stem"].min() >= 0
    for stage in (tap for tap in features if tap.startswith("stage") and not tap.endswith("_preact")):
        before = features[f"{stage}_preact"]
        assert before.min() < 0
        expected = before if name == "mobilenetv2" else before.clamp(min=0)
        if name == "shufflenetv2":
            expected = shuffled(expected, 2)
        torch.testing.assert_close(features[stage], expected, rtol=0, atol=0)


def shuffled(x, groups):
    """Channel i of group g goes to place i * groups + g."""
    size = x.shape[1] // groups
    out = torch.empty_like(x)
    for group in range(groups):
        for i in range(size):
            out[:, i * groups + group] = x[:, group * size + i]
    return out


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_shuffle__takes_one_channel_of_each_group_in_turn(groups):
    x = torch.randn(2, 12, 3, 5)
    torch.testing.assert_close(shufflenetv1.shuffle(x, groups), shuffled(x, groups), rtol=0, atol=0)


def test_shuffle__of_six_channels_in_three_groups():
    order = shufflenetv1.shuffle(torch.arange(6.0).view(1, 6, 1, 1), 3).flatten().tolist()
    assert order == [0, 2, 4, 1, 3, 5]


def conv_bn(x, conv, bn, stride=1, groups=1):
    """Return batch norm in eval mode of a convolution, from plain weights and a loop over the groups."""
    size, out = x.shape[1] // groups, conv.weight.shape[0] // groups
    parts = [
        F.conv2d(
            x[:, g * size : (g + 1) * size],
            conv.weight[g * out : (g + 1) * out],
            stride=stride,
            padding=conv.weight.shape[2] // 2,
        )
        for g in range(groups)
    ]
    mean, var, gain, bias = (v.view(-1, 1, 1) for v in (bn.running_mean, bn.running_var, bn.weight, bn.bias))
    return (torch.cat(parts, 1) - mean) / (var + 1e-5).sqrt() * gain + bias


def case(block, inputs):
    torch.manual_seed(0)
    return move_batch_norms(block), torch.randn(2, inputs, 6, 6).double()


@pytest.mark.parametrize(
    "inputs, stride, expansion, adds", [(4, 1, 6, False), (8, 1, 6, True), (8, 2, 6, False), (8, 1, 1, True)]
)
def test_inverted_residual__adds_the_input_where_its_shape_stays(inputs, stride, expansion, adds):
    block, x = case(mobilenetv2.InvertedResidual(inputs, 8, stride, expansion), inputs)
    x = 100 * x  # beyond what a ReLU6 would pass
    expand, bn1, _, depthwise, bn2, _, project, bn3 = block.conv
    out = conv_bn(x, expand, bn1).clamp(min=0)
    out = conv_bn(out, depthwise, bn2, stride, groups=inputs * expansion).clamp(min=0)
    out = conv_bn(out, project, bn3)
    torch.testing.assert_close(block(x), x + out if adds else out)


@pytest.mark.parametrize("inputs, outputs, stride, first", [(48, 48, 1, 3), (12, 48, 2, 3), (24, 48, 2, 1)])
def test_shuffle_unit__adds_the_input_or_appends_its_average(inputs, outputs, stride, first):
    block, x = case(shufflenetv1.ShuffleUnit(inputs, outputs, stride, 3), inputs)
    middle = block.conv1.out_channels
    out = shuffled(conv_bn(x, block.conv1, block.bn1, groups=first).clamp(min=0), first)
    out = conv_bn(out, block.conv2, block.bn2, stride, groups=middle).clamp(min=0)
    out = conv_bn(out, block.conv3, block.bn3, groups=3)
    if stride == 1:
        expected = out + x
    else:  # 3x3 mean around every other pixel, zeros outside counted
        padded = F.pad(x, (1, 1, 1, 1))
        mean = sum(padded[:, :, i : i + 5 : 2, j : j + 5 : 2] for i in range(3) for j in range(3)) / 9
        expected = torch.cat((out, mean), 1)
    torch.testing.assert_close(block(x), expected.clamp(min=0))


def test_split_unit__keeps_the_first_half():
    block, x = case(shufflenetv2.SplitUnit(12), 12)
    x = x.clamp(min=0)
    out = conv_bn(x[:, 6:], block.conv1, block.bn1).clamp(min=0)
    out = conv_bn(out, block.conv2, block.bn2, groups=6)
    out = conv_bn(out, block.conv3, block.bn3).clamp(min=0)
    torch.testing.assert_close(block(x), shuffled(torch.cat((x[:, :6], out), 1), 2))


def test_split_unit__reads_only_non_negative_inputs():
    network, read = build("shufflenetv2", 5).eval(), []
    for unit in (m for m in network.modules() if isinstance(m, shufflenetv2.SplitUnit)):
        unit.register_forward_pre_hook(lambda _, args: read.append(args[0].min().item()))
    with torch.no_grad():
        network(torch.randn(1, 3, 32, 32))
    assert len(read) == 13
    assert min(read) >= 0


def test_down_unit__puts_the_short_branch_first():
    block, x = case(shufflenetv2.DownUnit(6, 16), 6)
    short = conv_bn(conv_bn(x, block.conv1, block.bn1, 2, groups=6), block.conv2, block.bn2)
    long = conv_bn(x, block.conv3, block.bn3).clamp(min=0)
    long = conv_bn(conv_bn(long, block.conv4, block.bn4, 2, groups=8), block.conv5, block.bn5)
    torch.testing.assert_close(block(x), shuffled(torch.cat((short, long), 1).clamp(min=0), 2))


@pytest.mark.parametrize("inputs, stride", [(16, 1), (8, 1), (8, 2), (16, 2)])
def test_bottleneck__strides_in_the_3x3_and_adds_before_the_relu(inputs, stride):
    block, x = case(resnet50.Bottleneck(inputs, 4, stride), inputs)
    out = conv_bn(x, block.conv1, block.bn1).clamp(min=0)
    out = conv_bn(conv_bn(out, block.conv2, block.bn2, stride).clamp(min=0), block.conv3, block.bn3)
    assert (block.shortcut is None) == (inputs == 16 and stride == 1)
    out = out + (x if block.shortcut is None else conv_bn(x, *block.shortcut, stride=stride))
    torch.testing.assert_close(block(x), out.clamp(min=0))


@pytest.mark.parametrize("name", ["mobilenetv2", "resnet50"])
def test_builders__initialise_convolutions_by_fan_out(name):
    torch.manual_seed(0)
    for module in build(name, 1000).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() >= 2000:
            size = module.out_channels * math.prod(module.kernel_size)  # a depthwise kernel counts every channel too
            assert module.weight.std().item() == pytest.approx((2 / size) ** 0.5, rel=0.08)


def test_mobilenetv2__initialises_a_small_classifier():
    torch.manual_seed(0)
    (head,) = build("mobilenetv2").classifier
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert head.bias.abs().max() == 0


@pytest.mark.parametrize("name", ["shufflenetv1", "shufflenetv2"])
def test_shufflenets__keep_the_default_initialisation(name):
    torch.manual_seed(0)
    network = build(name)
    for module in (network.conv1, network.layer3[0].conv3, network.layer3[3].conv2, network.linear):
        bound = module.weight[0].numel() ** -0.5
        assert module.weight.abs().max().item() <= bound
        assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)


@pytest.mark.parametrize("name", SIZES)
def test_builders__take_grey_images_and_other_sizes(name):
    for side in (28, 64):
        with torch.device("meta"):
            found = tapped(build(name, 7, 1), 1).specs((1, side, side))
        assert found["logits"].shape == (7,)


@pytest.mark.parametrize("name", SIZES)
def test_builders__every_weight_gets_a_gradient(name):
    torch.manual_seed(0)
    network = build(name, 3)
    F.cross_entropy(network(torch.randn(2, 3, 16, 16)), torch.tensor([0, 2])).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", SIZES)
def test_configs__are_student_and_teacher_of_the_same_network(name):
    cfg = resolved(compose(["dataset=cifar100", f"student={name}", f"teacher=[{name}]"]))
    target = f"distill.networks.cifar.{name}.{name}"
    assert cfg["student"] == {"_target_": target, "num_classes": 100, "channels": 3}
    assert cfg["teacher"][name]["network"] == cfg["student"]
    assert get_method(target) is getattr(MODULES[name], name)
