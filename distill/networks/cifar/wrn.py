"""CIFAR wide residual networks of the CRD tables: wrn_16_1, wrn_16_2, wrn_40_1 and wrn_40_2."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class PreActBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions (Zagoruyko & Komodakis 2016, figure 1a).

    Where the channels change, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.convShortcut: nn.Module | None = None  # named as in the public checkpoints
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, H / stride, W / stride)``."""
        active = self.relu1(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + self.conv2(self.relu2(self.bn2(self.conv1(active))))


class WideResNet(nn.Module):
    """Stem, three stages of pre-activation blocks, batch norm and ReLU, global average, linear classifier.

    ``stageN`` taps the sum that a stage returns, ``stageN_preact`` the same after the batch norm that follows it.

    Args:
        depth: 6 n + 4 for n blocks a stage.
        widen: factor k of the 16, 32 and 64 channels of the stages.
        num_classes: number of classes K.
        channels: channels of the images.

    Raises:
        ValueError: when the depth is not 6 n + 4 with n >= 1.
    """

    def __init__(self, depth: int, widen: int, num_classes: int, channels: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth={depth} of a wide residual network must be 6n + 4: 10, 16, 22, 28, 34, 40, ...")
        narrow, middle, wide = 16 * widen, 32 * widen, 64 * widen
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = _stage(16, narrow, blocks, 1)
        self.block2 = _stage(narrow, middle, blocks, 2)
        self.block3 = _stage(middle, wide, blocks, 2)
        self.bn1 = nn.BatchNorm2d(wide)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(wide, num_classes)
        self.taps = {
            "stem": "conv1",
            **{f"stage{i}": f"block{i}" for i in (1, 2, 3)},
            "stage1_preact": "block2.layer.0.bn1",
            "stage2_preact": "block3.layer.0.bn1",
            "stage3_preact": "bn1",
            "final": "relu",
            "pooled": "flatten",
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.flatten(self.pool(self.relu(self.bn1(x)))))


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    rest = [PreActBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
    # the public checkpoints have one more level in their names: block1.layer.0
    return nn.Sequential(OrderedDict(layer=nn.Sequential(PreActBlock(inputs, outputs, stride), *rest)))


def wrn_16_1(num_classes: int, channels: int = 3) -> WideResNet:
    """Return the network of depth 16 and widening factor 1."""
    return WideResNet(16, 1, num_classes, channels)


def wrn_16_2(num_classes: int, channels: int = 3) -> WideResNet:
    """Return the network of depth 16 and widening factor 2."""
    return WideResNet(16, 2, num_classes, channels)


def wrn_40_1(num_classes: int, channels: int = 3) -> WideResNet:
    """Return the network of depth 40 and widening factor 1."""
    return WideResNet(40, 1, num_classes, channels)


def wrn_40_2(num_classes: int, channels: int = 3) -> WideResNet:
    """Return the network of depth 40 and widening factor 2."""
    return WideResNet(40, 2, num_classes, channels)
