"""CIFAR ResNet50 of the CRD tables (He et al. 2016): the ImageNet stages on images of 32 pixels, with a 3x3 stem."""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution around a shortcut (He et al., figure 5); ReLU after the sum, stride in the 3x3."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, 4 width, H / stride, W / stride)``."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        return self.relu3(out + (x if self.shortcut is None else self.shortcut(x)))


class BottleneckResNet(nn.Module):
    """3x3 stem without pooling, four stages of bottleneck blocks, global average, linear classifier.

    Args:
        depths: blocks of the four stages.
        num_classes: number of classes K.
        channels: channels of the images.
    """

    def __init__(self, depths: tuple[int, int, int, int], num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(64, 64, depths[0], 1)
        self.layer2 = _stage(256, 128, depths[1], 2)
        self.layer3 = _stage(512, 256, depths[2], 2)
        self.layer4 = _stage(1024, 512, depths[3], 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(2048, num_classes)
        self.taps = {
            "stem": "relu",
            **{f"stage{i}": f"layer{i}" for i in (1, 2, 3, 4)},
            **{f"stage{i}_preact": f"layer{i}.{depth - 1}.relu3:in" for i, depth in enumerate(depths, 1)},
            "final": "layer4",
            "pooled": "flatten",
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.flatten(self.pool(x)))


def _stage(inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    rest = [Bottleneck(4 * width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(Bottleneck(inputs, width, stride), *rest)


def resnet50(num_classes: int, channels: int = 3) -> BottleneckResNet:
    """Return the 50-layer network, ``ResNet50`` in the public checkpoints."""
    return BottleneckResNet((3, 4, 6, 3), num_classes, channels)
