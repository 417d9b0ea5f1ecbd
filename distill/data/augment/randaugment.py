"""RandAugment: a few random operations of one magnitude (Cubuk et al. 2020, arXiv:1909.13719)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from distill.data.augment import operations
from distill.data.augment.base import Augment
from distill.data.keyed import uniforms

OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
"""What is drawn from, in the order of torchvision."""
_MOVES = OPERATIONS[1:6]
_BLENDS = {
    "Brightness": operations.brightness, "Color": operations.color, "Contrast": operations.contrast,
    "Sharpness": operations.sharpness,
}  # fmt: skip
_PLAIN = {"AutoContrast": operations.autocontrast, "Equalize": operations.equalize}
_BINS = 31


class RandAugment(Augment):
    """Apply ``num_ops`` operations, drawn with replacement; those with a direction go either way, half of the time.

    Strengths are torchvision's: shear 0.3, shift 150 / 331 of the image, 30 degrees and so on at magnitude 30. What
    leaves the image is lost, what comes in is 0, and pixels are moved, not interpolated.

    Parameters are ``(N, num_ops, 2)``, int64: place in ``OPERATIONS``, and direction, 1 or -1.

    Args:
        num_ops: operations an image, the paper's N.
        magnitude: of all operations, 0 to 30, the paper's M.

    Raises:
        ValueError: when an argument is out of range.
    """

    def __init__(self, num_ops: int, magnitude: int) -> None:
        if not 1 <= num_ops <= 100:
            raise ValueError(f"augment.num_ops={num_ops} must be from 1 to 100")
        if not 0 <= magnitude < _BINS:
            raise ValueError(f"augment.magnitude={magnitude} must be from 0 to {_BINS - 1}")
        self.num_ops, self.magnitude = num_ops, magnitude

    def sample(self, seed: int, view: Tensor, index: Tensor, shape: Sequence[int]) -> Tensor:
        draws = uniforms(seed, view, index, range(2 * self.num_ops))
        operation = (draws[: self.num_ops] * len(OPERATIONS)).long()
        direction = (draws[self.num_ops :] < 0.5).long() * 2 - 1
        return torch.stack([operation, direction], 2).transpose(0, 1)

    def apply(self, images: Tensor, params: Tensor) -> Tensor:
        for operation, direction in (one.unbind(1) for one in params.unbind(1)):
            images = self._round(images, operation, direction)
        return images

    def _round(self, images: Tensor, operation: Tensor, direction: Tensor) -> Tensor:
        """Apply one operation to each image, those of one kind together."""
        counts = torch.bincount(operation, minlength=len(OPERATIONS)).tolist()  # the one wait for the device
        groups = dict(zip(OPERATIONS, operation.argsort(stable=True).split(counts), strict=True))
        out = images.clone()
        moved = torch.cat([groups.pop(name) for name in _MOVES])
        if len(moved):
            matrices = self._matrices(*images.shape[2:]).to(images.device)
            out[moved] = operations.affine(images[moved], matrices[operation[moved], direction[moved].clamp(min=0)])
        del groups["Identity"]
        for name, rows in groups.items():
            if len(rows):
                out[rows] = self._recolour(name, images[rows], direction[rows])
        return out

    def _recolour(self, name: str, images: Tensor, direction: Tensor) -> Tensor:
        if name in _BLENDS:
            return _BLENDS[name](images, 1 + direction * self._level(0.0, 0.9))
        if name == "Posterize":
            return operations.posterize(images, torch.full_like(direction, round(8 - 4 * self.magnitude / (_BINS - 1))))
        if name == "Solarize":
            # torchvision compares in float32
            threshold = torch.tensor(255 * self._level(1.0, 0.0), dtype=torch.float32).ceil()
            return operations.solarize(images, torch.full_like(direction, int(threshold)))
        return _PLAIN[name](images)

    def _level(self, first: float, last: float) -> float:
        """Return the strength at the magnitude, rounded as in torchvision's table."""
        return torch.linspace(first, last, _BINS, device="cpu")[self.magnitude].item()

    def _matrices(self, h: int, w: int) -> Tensor:
        """Return what :func:`operations.affine` takes, by operation and by direction back and forth, int64."""
        found = torch.zeros((len(OPERATIONS), 2, 6), dtype=torch.float64)
        for way, sign in enumerate((-1, 1)):
            shear, angle = sign * self._level(0.0, 0.3), sign * math.radians(self._level(0.0, 30.0))
            right, down = (sign * int(self._level(0.0, 150 / 331 * size)) for size in (w, h))
            cos, sin = math.cos(angle), math.sin(angle)
            rows = (
                (1, shear, shear * h / 2, 0, 1, 0), (1, 0, 0, shear, 1, shear * w / 2),  # from the upper left corner
                (1, 0, -right, 0, 1, 0), (1, 0, 0, 0, 1, -down),
                (cos, -sin, 0, sin, cos, 0),
            )  # fmt: skip
            found[1 : 1 + len(rows), way] = torch.tensor(rows, dtype=torch.float64)
        return (found * 2.0**operations.AFFINE_BITS).round().long()
