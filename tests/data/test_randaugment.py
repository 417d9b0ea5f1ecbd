"""RandAugment and cutout, one image at a time: against torchvision's functions, and against plain slices."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import RandAugment as Reference
from torchvision.transforms.v2 import functional as F

from distill.data.augment import Compose, CropFlip, Cutout, RandAugment
from distill.data.augment.randaugment import OPERATIONS
from tests.data.test_augment import keys

MOVES = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
EXACT = ("Identity", "Posterize", "Solarize", "Equalize")  # integer arithmetic in torchvision too


def photos(n: int, c: int, h: int, w: int) -> Tensor:
    """Return smooth images with noise, of different brightness and contrast, some of one colour."""
    random = torch.Generator().manual_seed(n)
    smooth = torch.nn.functional.interpolate(torch.rand(n, c, 3, 4, generator=random), (h, w), mode="bilinear")
    strength = torch.rand(n, 1, 1, 1, generator=random) ** 0.5
    x = strength * (0.8 * smooth + 0.2 * torch.rand(n, c, h, w, generator=random))
    x[0], x[1], x[2, 0] = 0.5, 0.0, 1.0
    x[3, :, 0, 0], x[3, :, 1, 1] = 0.0, 1.0  # the whole range: autocontrast changes nothing
    return (x * 255).round().to(torch.uint8)


def reference(image: Tensor, name: str, magnitude: int, direction: int) -> Tensor:
    """Return torchvision's result for one image."""
    levels, signed = Reference._AUGMENTATION_SPACE[name]
    table = levels(31, *image.shape[1:])
    strength = 0.0 if table is None else float(table[magnitude]) * (direction if signed else 1)
    return Reference()._apply_image_or_video_transform(image, name, strength, F.InterpolationMode.NEAREST, {})


def sources(name: str, magnitude: int, direction: int, h: int, w: int) -> Tensor:
    """Return how far from an edge between source pixels each target pixel lands, by the formulas, in float64."""
    m = direction * magnitude / 30
    y, x = np.mgrid[:h, :w].astype(float) + 0.5
    turn, (cy, cx) = math.radians(30 * m), (h / 2, w / 2)
    at = {
        "ShearX": (y, x + 0.3 * m * y),
        "ShearY": (y + 0.3 * m * x, x),
        "TranslateX": (y, x),  # by whole pixels: it never lands near an edge
        "TranslateY": (y, x),
        "Rotate": (
            math.sin(turn) * (x - cx) + math.cos(turn) * (y - cy) + cy,
            math.cos(turn) * (x - cx) - math.sin(turn) * (y - cy) + cx,
        ),
    }[name]
    return torch.tensor(np.minimum(*(abs(v - np.round(v)) for v in at)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 17, 40), (3, 2, 5)])
@pytest.mark.parametrize("magnitude", [0, 1, 9, 15, 20, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_rand_augment__each_operation_is_torchvisions(name: str, magnitude: int, shape: tuple[int, int, int]) -> None:
    x = photos(12, *shape)
    direction = torch.tensor([1, -1]).repeat(6)
    params = torch.stack([torch.full_like(direction, OPERATIONS.index(name)), direction], 1)[:, None]
    out = RandAugment(1, magnitude).apply(x, params)
    assert out.dtype == torch.uint8
    differ = 0.0
    for image, way, got in zip(x, direction.tolist(), out, strict=True):
        expected = reference(image, name, magnitude, way)
        differ += (got != expected).float().mean().item() / len(x)
        if name in MOVES:
            clear = sources(name, magnitude, way, *shape[1:]) > 1e-4  # elsewhere float32 decides either way
            assert clear.float().mean() >= 0.75
            assert torch.equal(got[:, clear], expected[:, clear])
        elif name in EXACT:
            assert torch.equal(got, expected)
        else:
            assert (got.int() - expected.int()).abs().max() <= 1
    assert differ < 0.2


def test_rand_augment__draws_all_operations_evenly_and_each_way_half_of_the_time() -> None:
    params = RandAugment(2, 9).sample(0, *keys(28_000), (3, 32, 32))
    assert params.shape == (28_000, 2, 2)
    pairs = Counter(map(tuple, params[:, :, 0].tolist()))
    assert len(pairs) == 14 * 14
    even = 28_000 / 196
    assert sum((c - even) ** 2 / even for c in pairs.values()) < 263  # 0.1 % of chi-square with 195 degrees of freedom
    assert params[:, :, 1].float().mean().abs() < 0.02


def test_rand_augment__applies_in_order() -> None:
    x = photos(40, 3, 16, 16)
    augment = RandAugment(3, 12)
    params = augment.sample(1, *keys(40), x.shape[1:])
    step = x
    for i in range(3):
        step = RandAugment(1, 12).apply(step, params[:, i : i + 1])
    assert torch.equal(augment.apply(x, params), step)


@pytest.mark.parametrize("size", [1, 4, 5, 30])
def test_cutout__fills_a_square_that_may_reach_outside(size: int) -> None:
    x = torch.full((200, 3, 8, 10), 77, dtype=torch.uint8)
    augment = Cutout(size, [0.0, 0.5, 1.0])
    params = augment.sample(0, *keys(200), x.shape[1:])
    assert {p + size // 2 for p in params[:, 0].tolist()} == set(range(8))
    assert {p + size // 2 for p in params[:, 1].tolist()} == set(range(10))
    for (top, left), got in zip(params.tolist(), augment.apply(x, params).numpy(), strict=True):
        expected = np.full((3, 8, 10), 77, np.uint8)
        box = np.s_[:, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)]
        expected[box] = np.array([0, 128, 255], np.uint8)[:, None, None]
        assert np.array_equal(got, expected)


@pytest.mark.parametrize(
    "augment", [RandAugment(2, 20), Compose([CropFlip(2, flip=True), RandAugment(2, 9), Cutout(4, [0.5] * 3)])]
)
def test_augment__is_the_same_for_any_batch_and_order(augment: RandAugment | Compose) -> None:
    x = photos(60, 3, 12, 10)
    view, index = keys(60)
    whole = augment(x, 5, view, index)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(x[order], 5, view[order], index[order]), whole[order])
    one = torch.cat([augment(x[i : i + 1], 5, view[i : i + 1], index[i : i + 1]) for i in range(60)])
    assert torch.equal(one, whole)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("magnitude", [3, 9, 20, 30])
def test_augment__is_equal_on_a_gpu(magnitude: int) -> None:
    x = photos(2000, 3, 32, 32)
    augment = Compose([CropFlip(4, flip=True), RandAugment(2, magnitude), Cutout(8, [0.5] * 3)])
    view, index = keys(2000)
    assert torch.equal(augment(x.cuda(), 5, view.cuda(), index.cuda()).cpu(), augment(x, 5, view, index))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(0, 9), "augment.num_ops=0 must be from 1"),
        (lambda: RandAugment(2, 31), "augment.magnitude=31 must be from 0 to 30"),
        (lambda: Cutout(0, [0.5]), "augment.size=0 must be at least 1"),
        (lambda: Cutout(4, [128]), r"augment.fill=\[128\] must be numbers from 0 to 1"),
        (
            lambda: Cutout(4, [0.5]).apply(photos(4, 3, 8, 8), torch.zeros(4, 2)),
            "augment.fill=.* for each of 3 channels",
        ),
    ],
)
def test_augment__refuses_what_is_out_of_range(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
