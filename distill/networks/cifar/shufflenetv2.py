"""CIFAR ShuffleNetV2 of the CRD tables (Ma et al. 2018): width 1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.networks.cifar.shufflenetv1 import shuffle

_STEM = 24


class SplitUnit(nn.Module):
    """One half of the channels passes unchanged, the other through 1x1, 3x3 a channel, 1x1; then shuffle (figure 3c).

    The last ReLU acts on both halves at once. The first half comes from ReLUs, so this changes nothing, and its
    input is one tensor that can be tapped.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, width, H, W)`` of a non-negative input of the same shape."""
        kept, out = x.chunk(2, 1)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(out)))))
        return shuffle(self.relu2(torch.cat((kept, self.bn3(self.conv3(out))), 1)), 2)


class DownUnit(nn.Module):
    """Two branches of stride 2 read the whole input and give half of the channels each; then shuffle (figure 3d)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, H / 2, W / 2)``."""
        short = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        long = self.bn4(self.conv4(self.relu1(self.bn3(self.conv3(x)))))
        return shuffle(self.relu2(torch.cat((short, self.bn5(self.conv5(long))), 1)), 2)


class ShuffleNetV2(nn.Module):
    """1x1 stem, three stages of 4, 8 and 4 units, 1x1 convolution, global average, linear classifier.

    ``stageN`` is shuffled, ``stageN_preact`` is the tensor before ReLU and shuffle, as in the reference. ``relu2`` is
    the map that is averaged.

    Args:
        widths: channels of the three stages and of the last convolution.
        num_classes: number of classes K.
        channels: channels of the images.
    """

    def __init__(self, widths: tuple[int, int, int, int], num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu1 = nn.ReLU()
        self.layer1 = _stage(_STEM, widths[0], 4)
        self.layer2 = _stage(widths[0], widths[1], 8)
        self.layer3 = _stage(widths[1], widths[2], 4)
        self.conv2 = nn.Conv2d(widths[2], widths[3], 1, bias=False)
        self.bn2 = nn.BatchNorm2d(widths[3])
        self.relu2 = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(widths[3], num_classes)
        self.taps = {
            "stem": "relu1",
            **{f"stage{i}": f"layer{i}" for i in (1, 2, 3)},
            **{f"stage{i}_preact": f"layer{i}.{last}.relu2:in" for i, last in ((1, 3), (2, 7), (3, 3))},
            "final": "relu2",
            "pooled": "flatten",
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.linear(self.flatten(self.pool(x)))


def _stage(inputs: int, outputs: int, units: int) -> nn.Sequential:
    return nn.Sequential(DownUnit(inputs, outputs), *(SplitUnit(outputs) for _ in range(units - 1)))


def shufflenetv2(num_classes: int, channels: int = 3) -> ShuffleNetV2:
    """Return the network of width 1, ``ShuffleV2`` in the public checkpoints."""
    return ShuffleNetV2((116, 232, 464, 1024), num_classes, channels)
