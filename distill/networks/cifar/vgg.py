"""CIFAR VGG networks with batch norm of the CRD tables: vgg8, vgg11, vgg13, vgg16 and vgg19."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

_WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of 3x3 convolutions with batch norm and ReLU, global average, linear classifier.

    Stages 0 to 2 end in 2x2 max pooling; stage 3 only for images 64 pixels high, so that 32 and 64 pixels both
    leave 4x4. The first stage is the tap ``stem``.

    Args:
        depths: convolutions of each of the five stages.
        num_classes: number of classes K.
        channels: channels of the images.
    """

    def __init__(self, depths: Sequence[int], num_classes: int, channels: int) -> None:
        super().__init__()
        inputs = (channels, *_WIDTHS)
        self.block0, self.block1, self.block2, self.block3, self.block4 = (
            _stage(inputs[i], inputs[i + 1], depth) for i, depth in enumerate(depths)
        )
        # a ReLU outside its block: inside, a two-convolution block could not be tapped before the activation
        self.relu0, self.relu1, self.relu2, self.relu3, self.relu4 = (nn.ReLU() for _ in _WIDTHS)
        self.pool0, self.pool1, self.pool2 = (nn.MaxPool2d(2) for _ in range(3))
        self.pool3 = _PoolOfLarge(2)
        self.pool4 = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(_WIDTHS[-1], num_classes)
        self.taps = {
            "stem": "relu0",
            **{f"stage{i}": f"relu{i}" for i in (1, 2, 3, 4)},
            **{f"stage{i}_preact": f"block{i}" for i in (1, 2, 3, 4)},
            "final": "relu4",
            "pooled": "flatten",
        }
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = self.pool0(self.relu0(self.block0(x)))
        x = self.pool1(self.relu1(self.block1(x)))
        x = self.pool2(self.relu2(self.block2(x)))
        x = self.relu3(self.block3(x))
        x = self.relu4(self.block4(self.pool3(x)))
        return self.classifier(self.flatten(self.pool4(x)))


class _PoolOfLarge(nn.MaxPool2d):
    """Halves the maps of 64x64 images, which are 8x8 by then; leaves those of 32x32 images."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.shape[2] == 8 else input


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Conv2d(outputs if i else inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def vgg8(num_classes: int, channels: int = 3) -> VGG:
    """Return the network of one convolution a stage."""
    return VGG((1, 1, 1, 1, 1), num_classes, channels)


def vgg11(num_classes: int, channels: int = 3) -> VGG:
    """Return the network of 1, 1, 2, 2 and 2 convolutions."""
    return VGG((1, 1, 2, 2, 2), num_classes, channels)


def vgg13(num_classes: int, channels: int = 3) -> VGG:
    """Return the network of two convolutions a stage."""
    return VGG((2, 2, 2, 2, 2), num_classes, channels)


def vgg16(num_classes: int, channels: int = 3) -> VGG:
    """Return the network of 2, 2, 3, 3 and 3 convolutions."""
    return VGG((2, 2, 3, 3, 3), num_classes, channels)


def vgg19(num_classes: int, channels: int = 3) -> VGG:
    """Return the network of 2, 2, 4, 4 and 4 convolutions."""
    return VGG((2, 2, 4, 4, 4), num_classes, channels)
