"""Connectors that work position by position, and FitNet's: each made of two shapes, or None where they do not meet."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from distill.connectors.forms import Reform, channels, reformable
from distill.outputs import Spec


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes the running statistics when a channel has a single value, from which none can be made.

    The last batch of an epoch may hold one sample and the map one pixel; the stock module raises there.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.numel() > input.shape[1]:
            return super().forward(input)
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def projector(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return a 1x1 convolution with batch norm, for tokens and vectors a linear layer, or None where sizes differ."""
    inputs, outputs = student.shape, teacher.shape
    if len(inputs) != len(outputs):
        return None
    if len(inputs) == 3:
        layers = nn.Conv2d(inputs[0], outputs[0], 1, bias=False), BatchNorm(outputs[0])
        return nn.Sequential(*layers) if inputs[1:] == outputs[1:] else None
    return nn.Linear(inputs[-1], outputs[-1]) if inputs[:-1] == outputs[:-1] else None


def regressor(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return convolution, batch norm and ReLU of FitNet (arXiv:1412.6550) as published code has it, or None.

    Maps twice the teacher's size are halved with stride 2, maps of half its size doubled by a transposed convolution,
    other larger maps shrunk by a kernel of ``1 + difference`` (whose weights grow with its area); tokens and vectors
    are connected by a linear layer without ReLU.
    """
    if len(student.shape) != 3 or len(teacher.shape) != 3:
        return projector(student, teacher)
    (inputs, height, width), (outputs, *size) = student.shape, teacher.shape
    layer: nn.Module
    if [height, width] == [2 * n for n in size]:
        layer = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    elif [2 * height, 2 * width] == size:
        layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    elif height >= size[0] and width >= size[1]:
        layer = nn.Conv2d(inputs, outputs, (1 + height - size[0], 1 + width - size[1]))
    else:
        return None
    return nn.Sequential(layer, BatchNorm(outputs), nn.ReLU())


def identity(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return what gives back its input, or None where the shapes differ."""
    return nn.Identity() if student.shape == teacher.shape else None


def block(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, batch norm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, BatchNorm(outputs), nn.ReLU())


def bottleneck(inputs: int, hidden: int, outputs: int) -> nn.Module:
    """Return convolutions of 1x1, 3x3 and 1x1, each with batch norm and ReLU, on maps ``(N, inputs, H, W)``."""
    return nn.Sequential(block(inputs, hidden, 1), block(hidden, hidden, 3), block(hidden, outputs, 1))


def linear(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return one linear layer with bias over the channels, after the change of form that it takes, or None."""
    if not reformable(student, teacher):
        return None
    return nn.Sequential(Reform(student, teacher), _over_channels(channels(student), channels(teacher), teacher))


def mlp(student: Spec, teacher: Spec) -> nn.Module | None:
    """Return two linear layers with a ReLU between, twice the teacher's channels wide, likewise; or None."""
    if not reformable(student, teacher):
        return None
    outputs = channels(teacher)
    return nn.Sequential(
        Reform(student, teacher),
        _over_channels(channels(student), 2 * outputs, teacher),
        nn.ReLU(),
        _over_channels(2 * outputs, outputs, teacher),
    )


def _over_channels(inputs: int, outputs: int, form: Spec) -> nn.Module:
    return nn.Conv2d(inputs, outputs, 1) if len(form.shape) == 3 else nn.Linear(inputs, outputs)
