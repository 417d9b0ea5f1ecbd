"""CIFAR ShuffleNet of the CRD tables (Zhang et al. 2018): three groups."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_STEM = 24


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Return channels ``(N, C, H, W)`` interleaved: the first of each group, then the second of each, and so on."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, 3x3 a channel, grouped 1x1 (Zhang et al., figures 2b and 2c); ReLU after the depthwise too.

    At stride 1 the input is added; at stride 2 its average is appended, so the branch gives the channels that are
    missing. The few channels of the stem are not grouped.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        branch = outputs - inputs if stride == 2 else outputs
        middle = branch // 4
        self.groups = 1 if inputs == _STEM else groups
        self.conv1 = nn.Conv2d(inputs, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(middle, branch, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(branch)
        self.pool: nn.Module | None = nn.AvgPool2d(3, 2, 1) if stride == 2 else None
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, H / stride, W / stride)``."""
        out = shuffle(self.relu1(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        return self.relu3(out + x if self.pool is None else torch.cat((out, self.pool(x)), 1))


class ShuffleNetV1(nn.Module):
    """1x1 stem, three stages of 4, 8 and 4 units that start with stride 2, global average, linear classifier.

    Args:
        groups: groups of the 1x1 convolutions.
        widths: channels of the three stages.
        num_classes: number of classes K.
        channels: channels of the images.
    """

    def __init__(self, groups: int, widths: tuple[int, int, int], num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU()
        self.layer1 = _stage(_STEM, widths[0], 4, groups)
        self.layer2 = _stage(widths[0], widths[1], 8, groups)
        self.layer3 = _stage(widths[1], widths[2], 4, groups)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(widths[2], num_classes)
        self.taps = {
            "stem": "relu",
            **{f"stage{i}": f"layer{i}" for i in (1, 2, 3)},
            **{f"stage{i}_preact": f"layer{i}.{last}.relu3:in" for i, last in ((1, 3), (2, 7), (3, 3))},
            "final": "layer3",
            "pooled": "flatten",
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(self.flatten(self.pool(x)))


def _stage(inputs: int, outputs: int, units: int, groups: int) -> nn.Sequential:
    rest = [ShuffleUnit(outputs, outputs, 1, groups) for _ in range(units - 1)]
    return nn.Sequential(ShuffleUnit(inputs, outputs, 2, groups), *rest)


def shufflenetv1(num_classes: int, channels: int = 3) -> ShuffleNetV1:
    """Return the network of three groups, ``ShuffleV1`` in the public checkpoints."""
    return ShuffleNetV1(3, (240, 480, 960), num_classes, channels)
