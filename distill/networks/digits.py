"""A small convolutional network for 8x8 digits; one family, whose width makes it teacher or student."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class DigitsCNN(nn.Module):
    """Two 3x3 convolutions with batch norm, global average pooling, a linear classifier.

    Args:
        width: channels of the first stage; the second has twice as many.
        num_classes: number of classes K.
        channels: channels of the images.
    """

    taps: ClassVar[dict[str, str]] = {"stage1": "stage1", "stage2": "stage2", "final": "stage2", "pooled": "pooled"}

    def __init__(self, width: int, num_classes: int, channels: int = 1) -> None:
        super().__init__()
        self.stage1 = _stage(channels, width)
        self.pool = nn.MaxPool2d(2)
        self.stage2 = _stage(width, 2 * width)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        return self.classifier(self.pooled(self.stage2(self.pool(self.stage1(x)))))


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def digits_cnn(width: int, num_classes: int, channels: int = 1) -> DigitsCNN:
    """Return a :class:`DigitsCNN`."""
    return DigitsCNN(width, num_classes, channels)
