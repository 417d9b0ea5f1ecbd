"""Mixing: each image with another of its split, as sample(key) -> parameters and a pure apply; mixup and cutmix.

The other image, the share and the box are decided by (seed, view, index) alone, as an augmentation is, so a teacher's
answer to a mixed image can be kept under the same key.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill.data.keyed import uniform, uniforms

_PARTNER, _SHARE, _ROW, _COLUMN, _CHOICE = 200, 201, 202, 203, 204  # streams; those of an augmentation count up from 0
_NODES, _TERMS = 2049, 400
_LARGEST = 100.0  # alpha up to which so many terms of the series suffice


class MixParams(NamedTuple):
    """How each image is mixed: the partner's pixels inside the box, ``blend own + (1 - blend) partner`` outside.

    Attributes:
        partner: position of the other image in the split ``(N,)``, int64.
        share: what part of the mixed image, and so of its label, is its own ``(N,)``, float32 in [0, 1].
        blend: weight of the image's own pixels outside the box ``(N,)``, float32.
        box: top, left, bottom, right ``(N, 4)``, int64, the last two excluded; zeros for none.
    """

    partner: Tensor
    share: Tensor
    blend: Tensor
    box: Tensor


class Mixing(ABC):
    """One way to mix a batch of uint8 images ``(N, C, H, W)`` with others."""

    @abstractmethod
    def sample(self, seed: int, view: Tensor, index: Tensor, size: int, shape: Sequence[int]) -> MixParams:
        """Return the parameters that :meth:`apply` takes, decided by (seed, view, index) alone.

        Args:
            seed: the run's seed.
            view: view numbers ``(N,)``.
            index: sample numbers ``(N,)``.
            size: number of samples of the split, from which the partners are drawn.
            shape: of one image, ``(C, H, W)``.
        """

    @abstractmethod
    def apply(self, images: Tensor, partners: Tensor, params: MixParams) -> Tensor:
        """Return the mixed images ``(N, C, H, W)``: uint8 pixels, or floats in [0, 1].

        Args:
            images: ``(N, C, H, W)``, uint8, augmented.
            partners: the images that ``params.partner`` names, augmented each by its own key.
            params: of :meth:`sample`.
        """


class Mixup(Mixing):
    """Blend two images (Zhang et al. 2018, arXiv:1710.09412); gives floats in [0, 1].

    Args:
        alpha: the share is drawn from Beta(alpha, alpha); 1 is even, towards 0 one of the two images prevails.

    Raises:
        ValueError: when alpha is out of range.
    """

    def __init__(self, alpha: float) -> None:
        self.beta = SymmetricBeta(alpha)

    def sample(self, seed: int, view: Tensor, index: Tensor, size: int, shape: Sequence[int]) -> MixParams:
        share = self.beta(uniform(seed, view, index, _SHARE)).float()
        return MixParams(_partner(seed, view, index, size), share, share, index.new_zeros((len(index), 4)))

    def apply(self, images: Tensor, partners: Tensor, params: MixParams) -> Tensor:
        return blended(images, partners, params.blend)


class CutMix(Mixing):
    """Paste a box of the other image (Yun et al. 2019, arXiv:1905.04899); gives uint8.

    The area of the box is the other image's part; the box is cut off at the border, and the share is of what remains.

    Args:
        alpha: the share before that is drawn from Beta(alpha, alpha); 1 in the paper.

    Raises:
        ValueError: when alpha is out of range.
    """

    def __init__(self, alpha: float) -> None:
        self.beta = SymmetricBeta(alpha)

    def sample(self, seed: int, view: Tensor, index: Tensor, size: int, shape: Sequence[int]) -> MixParams:
        draws = uniforms(seed, view, index, (_SHARE, _ROW, _COLUMN))
        side = (1 - self.beta(draws[0])).sqrt()
        edges = []
        for place, length in zip(draws[1:], shape[1:], strict=True):
            centre, half = (place * length).long(), (side * length).long() // 2
            edges.append(((centre - half).clamp(min=0), (centre + half).clamp(max=length)))
        (top, bottom), (left, right) = edges
        cut = ((bottom - top) * (right - left)).double() / (shape[1] * shape[2])
        share = (1 - cut).float()
        box = torch.stack([top, left, bottom, right], 1)
        return MixParams(_partner(seed, view, index, size), share, torch.ones_like(share), box)

    def apply(self, images: Tensor, partners: Tensor, params: MixParams) -> Tensor:
        return pasted(images, partners, params.box)


class Either(Mixing):
    """Mix each image in one of several ways, drawn by probability; gives floats in [0, 1].

    Args:
        parts: the ways.
        probabilities: of each, in the same order; what is missing to 1 leaves images as they are.

    Raises:
        ValueError: when there is not one probability a part, or they are none.
    """

    def __init__(self, parts: Sequence[Mixing], probabilities: Sequence[float]) -> None:
        listed = ", ".join(f"{p:g}" for p in probabilities)
        if not parts or len(parts) != len(probabilities):
            raise ValueError(f"mix.probabilities=[{listed}]: must be one number for each of {len(parts)} parts")
        if min(probabilities) < 0 or sum(probabilities) > 1 + 1e-9:
            raise ValueError(f"mix.probabilities=[{listed}]: must not be negative and sum to at most 1")
        self.parts, self.probabilities = list(parts), list(probabilities)

    def sample(self, seed: int, view: Tensor, index: Tensor, size: int, shape: Sequence[int]) -> MixParams:
        ends = torch.tensor(self.probabilities, dtype=torch.float64).cumsum(0).to(index.device)
        chosen = torch.searchsorted(ends, uniform(seed, view, index, _CHOICE), right=True)
        whole = torch.ones(len(index), device=index.device)
        found = MixParams(_partner(seed, view, index, size), whole, whole, index.new_zeros((len(index), 4)))
        for number, part in enumerate(self.parts):
            own, mine = part.sample(seed, view, index, size, shape), chosen == number
            found = MixParams(
                torch.where(mine, own.partner, found.partner),
                torch.where(mine, own.share, found.share),
                torch.where(mine, own.blend, found.blend),
                torch.where(mine[:, None], own.box, found.box),
            )
        return found

    def apply(self, images: Tensor, partners: Tensor, params: MixParams) -> Tensor:
        return blended(pasted(images, partners, params.box), partners, params.blend)


def _partner(seed: int, view: Tensor, index: Tensor, size: int) -> Tensor:
    return (uniform(seed, view, index, _PARTNER) * size).long()


def blended(images: Tensor, partners: Tensor, blend: Tensor) -> Tensor:
    """Return ``blend images + (1 - blend) partners`` of uint8 images, float32 in [0, 1]; ``blend`` is ``(N,)``."""
    own = blend.view(-1, 1, 1, 1)
    # product and sum apart: fused, as in lerp, they round differently on different devices
    return (images * own).add_(partners * (1 - own)).div_(255).clamp_(max=1)


def pasted(images: Tensor, partners: Tensor, box: Tensor) -> Tensor:
    """Return images with the partners' pixels inside the box ``(N, 4)``: top, left, bottom, right."""
    row, column = (torch.arange(n, device=images.device) for n in images.shape[2:])
    top, left, bottom, right = (edge[:, None] for edge in box.unbind(1))
    inside = ((row >= top) & (row < bottom))[:, None, :, None] & ((column >= left) & (column < right))[:, None, None, :]
    return torch.where(inside, partners, images)


class SymmetricBeta:
    """Quantiles of Beta(alpha, alpha), so that a draw from it is a function of one uniform number, on every device.

    The distribution function up to 1/2, ``x^alpha (1 - x)^alpha F(2 alpha, 1; alpha + 1; x)`` but for a factor (NIST
    DLMF 8.17.8), is a table made once, denser towards 0 where the quantiles of a small alpha are; linear in between.

    Args:
        alpha: above 0, up to 100.

    Raises:
        ValueError: when alpha is out of range.
    """

    def __init__(self, alpha: float) -> None:
        if not 0 < alpha <= _LARGEST:
            raise ValueError(f"mix.alpha={alpha:g}: must be above 0 and at most {_LARGEST:g}")
        self.alpha = alpha
        self.x = (torch.linspace(0, 1, _NODES, dtype=torch.float64, device="cpu") * (torch.pi / 4)).sin().square()
        term = total = torch.ones_like(self.x)
        for n in range(_TERMS):
            term = term * self.x * ((2 * alpha + n) / (alpha + 1 + n))
            total = total + term
        unscaled = (self.x * (1 - self.x)) ** alpha * total
        self.cdf = unscaled * (0.5 / unscaled[-1])

    def __call__(self, u: Tensor) -> Tensor:
        """Return the quantiles, float64, of numbers ``(N,)`` in [0, 1), float64."""
        if self.alpha == 1:
            return u
        x, cdf = self.x.to(u.device), self.cdf.to(u.device)
        lower = torch.minimum(u, 1 - u)
        high = torch.searchsorted(cdf, lower, right=True).clamp(max=_NODES - 1)
        low = high - 1
        part = (lower - cdf[low]) / (cdf[high] - cdf[low])
        found = x[low] + part * (x[high] - x[low])
        return torch.where(u < 0.5, found, 1 - found)
