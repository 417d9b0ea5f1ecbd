"""CIFAR MobileNetV2 of the CRD tables (Sandler et al. 2018): half width, expansion 6."""

from __future__ import annotations

from torch import Tensor, nn

# channels at full width, blocks and first stride; the paper's table 2, but stride 1 where channels become 24
_STAGES = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel by 3x3, project by a linear 1x1 (Sandler et al., figure 3b).

    ReLU in place of ReLU6; the expansion stays where it is 1; no activation after the sum.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            *_conv(inputs, hidden, 1),
            *_conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, H / stride, W / stride)``."""
        out = self.conv(x)
        return x + out if self.adds else out


class MobileNetV2(nn.Module):
    """Stem of stride 2, seven groups of inverted residuals, 1x1 convolution to 1280, global average, linear classifier.

    ``stage1`` to ``stage4`` tap the last group at each size. They end without a ReLU, so ``stageN_preact`` is the same
    tensor. ``conv2`` is the map of 1280 channels that is averaged.

    Args:
        expansion: factor T of the channels inside a block; 1 in the first.
        width: factor of the channels of stem and blocks, not of the 1280 unless above 1.
        num_classes: number of classes K.
        channels: channels of the images.
    """

    def __init__(self, expansion: int, width: float, num_classes: int, channels: int) -> None:
        super().__init__()
        inputs, last = int(32 * width), int(1280 * max(width, 1))
        self.conv1 = _conv(channels, inputs, 3, 2)
        self.blocks = nn.Sequential()
        for i, (full, depth, stride) in enumerate(_STAGES):
            outputs = int(full * width)
            self.blocks.append(_stage(inputs, outputs, depth, stride, expansion if i else 1))
            inputs = outputs
        self.conv2 = _conv(inputs, last, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Linear(last, num_classes))  # the public checkpoints name it classifier.0
        stages = {f"stage{i}": f"blocks.{block}" for i, block in enumerate((1, 2, 4, 6), 1)}
        self.taps = {
            "stem": "conv1",
            **stages,
            **{f"{stage}_preact": path for stage, path in stages.items()},
            "final": "conv2",
            "pooled": "flatten",
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.conv2(self.blocks(self.conv1(x)))
        return self.classifier(self.flatten(self.pool(x)))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _stage(inputs: int, outputs: int, depth: int, stride: int, expansion: int) -> nn.Sequential:
    rest = [InvertedResidual(outputs, outputs, 1, expansion) for _ in range(depth - 1)]
    return nn.Sequential(InvertedResidual(inputs, outputs, stride, expansion), *rest)


def mobilenetv2(num_classes: int, channels: int = 3) -> MobileNetV2:
    """Return the network of half width and expansion 6, ``mobile_half`` in the public checkpoints."""
    return MobileNetV2(6, 0.5, num_classes, channels)
