"""CIFAR residual networks of the CRD tables: resnet8 to resnet110, and the wider resnet8x4 and resnet32x4."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, eq. 1); ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, H / stride, W / stride)``."""
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Stem, three stages of basic blocks, global average, linear classifier.

    Args:
        depth: 6 n + 2 for n blocks a stage.
        widths: channels of the stem and of the three stages.
        num_classes: number of classes K.
        channels: channels of the images.

    Raises:
        ValueError: when the depth is not 6 n + 2 with n >= 1.
    """

    def __init__(self, depth: int, widths: Sequence[int], num_classes: int, channels: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth={depth} of a CIFAR residual network must be 6n + 2: 8, 14, 20, 26, 32, 38, ...")
        self.conv1 = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.layer1 = _stage(widths[0], widths[1], blocks, 1)
        self.layer2 = _stage(widths[1], widths[2], blocks, 2)
        self.layer3 = _stage(widths[2], widths[3], blocks, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[3], num_classes)
        last = blocks - 1
        self.taps = {
            "stem": "relu",
            **{f"stage{i}": f"layer{i}" for i in (1, 2, 3)},
            **{f"stage{i}_preact": f"layer{i}.{last}.relu2:in" for i in (1, 2, 3)},
            "final": "layer3",
            "pooled": "flatten",
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.flatten(self.pool(x)))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(BasicBlock(inputs, outputs, stride), *rest)


_NARROW, _WIDE = (16, 16, 32, 64), (32, 64, 128, 256)


def resnet8(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 8-layer network."""
    return ResNet(8, _NARROW, num_classes, channels)


def resnet14(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 14-layer network."""
    return ResNet(14, _NARROW, num_classes, channels)


def resnet20(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 20-layer network."""
    return ResNet(20, _NARROW, num_classes, channels)


def resnet32(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 32-layer network."""
    return ResNet(32, _NARROW, num_classes, channels)


def resnet44(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 44-layer network."""
    return ResNet(44, _NARROW, num_classes, channels)


def resnet56(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 56-layer network."""
    return ResNet(56, _NARROW, num_classes, channels)


def resnet110(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 110-layer network."""
    return ResNet(110, _NARROW, num_classes, channels)


def resnet8x4(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 8-layer network with four times the channels."""
    return ResNet(8, _WIDE, num_classes, channels)


def resnet32x4(num_classes: int, channels: int = 3) -> ResNet:
    """Return the 32-layer network with four times the channels."""
    return ResNet(32, _WIDE, num_classes, channels)


def cifar_resnet(depth: int, width: int, num_classes: int, channels: int = 3) -> ResNet:
    """Return the network of any depth and width, whose stem and stages have 1, 1, 2 and 4 times ``width`` channels.

    Raises:
        ValueError: when the depth is not 6 n + 2 with n >= 1, or the width is below 1.
    """
    if width < 1:
        raise ValueError(f"width={width} of a CIFAR residual network must be at least 1; 16 is that of resnet20")
    return ResNet(depth, (width, width, 2 * width, 4 * width), num_classes, channels)
