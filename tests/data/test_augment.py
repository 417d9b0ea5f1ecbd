"""Augmentation against one sample at a time with plain slices, and against torchvision's distributions."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import resize

from distill.data.augment import Augment, Compose, CropFlip, ResizedCropFlip


def images(n: int = 6, c: int = 3, h: int = 8, w: int = 10) -> torch.Tensor:
    return torch.randint(0, 256, (n, c, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def keys(n: int, view: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((n,), view), torch.arange(n)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_crop_flip__equals_slices_of_a_padded_array(padding: int) -> None:
    x, augment = images(40), CropFlip(padding, flip=True)
    params = augment.sample(0, *keys(40), x.shape[1:])
    out = augment.apply(x, params)
    for image, (top, left, flip), got in zip(x.numpy(), params.tolist(), out.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        expected = padded[:, top : top + 8, left : left + 10]
        assert np.array_equal(got, expected[:, :, ::-1] if flip else expected)
    assert out.dtype == torch.uint8
    assert out.is_contiguous()


def test_crop_flip__reaches_all_162_views_evenly() -> None:
    view, index = keys(162 * 100)
    params = CropFlip(4, flip=True).sample(0, view, index, (3, 32, 32))
    counts = Counter(map(tuple, params.tolist()))
    assert set(counts) == set(product(range(9), range(9), range(2)))
    assert sum((c - 100) ** 2 / 100 for c in counts.values()) < 224  # 0.1 % of chi-square with 161 degrees of freedom


def test_crop_flip__without_flip_never_mirrors() -> None:
    assert CropFlip(1, flip=False).sample(0, *keys(500), (1, 8, 8))[:, 2].max() == 0


def test_resized_crop_flip__is_torchvisions_resize_of_the_box_within_one_grey_level() -> None:
    x, augment = images(200), ResizedCropFlip((0.3, 1.0), (0.75, 1.3333), flip=True)
    params = augment.sample(0, *keys(200), x.shape[1:])
    out = augment.apply(x, params)
    differ = 0.0
    for image, (top, left, h, w, flip), got in zip(x, params.tolist(), out, strict=True):
        box = resize(image[:, top : top + h, left : left + w].float(), [8, 10], antialias=True).round().clamp(0, 255)
        distance = (got - (box.flip(2) if flip else box)).abs()  # noise: neighbours differ more than in any photograph
        assert distance.max() <= 1
        differ += distance.mean().item() / len(x)
        if (h, w) == (8, 10):
            assert not distance.any()
    assert differ < 0.04


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 24, 96)])
def test_resized_crop_flip__has_the_distribution_of_torchvision(shape: tuple[int, int, int]) -> None:
    scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
    params = ResizedCropFlip(scale, ratio, flip=True).sample(0, *keys(4000), shape).double()
    blank = torch.zeros(shape)
    torch.manual_seed(0)
    theirs = torch.tensor([RandomResizedCrop.get_params(blank, list(scale), list(ratio)) for _ in range(4000)]).double()
    for ours, their in zip(params.unbind(1), theirs.unbind(1), strict=False):
        spread = their.std().clamp(min=1e-3)
        assert (ours.mean() - their.mean()).abs() < 5 * spread * (2 / 4000) ** 0.5
        assert (ours.std() / spread - 1).abs() < 0.1
    top, left, height, width, flip = params.unbind(1)
    assert (top + height).max() <= shape[1]
    assert (left + width).max() <= shape[2]
    assert 0.45 < flip.mean() < 0.55


@pytest.mark.parametrize(
    "augment",
    [CropFlip(2, flip=True), ResizedCropFlip((0.5, 1), (1, 1), flip=True), Compose([CropFlip(1, flip=False)] * 2)],
)
def test_augment__is_the_same_for_any_batch_and_order(augment: Augment) -> None:
    x = images(20)
    view, index = keys(20)
    whole = augment(x, 5, view, index)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(x[order], 5, view[order], index[order]), whole[order])
    one = torch.cat([augment(x[i : i + 1], 5, view[i : i + 1], index[i : i + 1]) for i in range(20)])
    assert torch.equal(one, whole)
    assert not torch.equal(augment(x, 5, view + 1, index), whole)
    assert not torch.equal(augment(x, 6, view, index), whole)


def test_compose__draws_for_each_part_and_applies_in_order() -> None:
    x = images(50)
    parts = [CropFlip(2, flip=False), CropFlip(2, flip=True)]
    augment = Compose(parts)
    first, second = augment.sample(0, *keys(50), x.shape[1:])
    assert not torch.equal(first[:, :2], second[:, :2])
    assert torch.equal(augment.apply(x, [first, second]), parts[1].apply(parts[0].apply(x, first), second))


@pytest.mark.parametrize(
    "make", [lambda: CropFlip(-1, flip=True), lambda: ResizedCropFlip((0, 1), (1, 1), flip=True)], ids=["crop", "scale"]
)
def test_augment__refuses_impossible_ranges(make: object) -> None:
    with pytest.raises(ValueError, match=r"augment\.(padding=-1|scale=\[0, 1\])"):
        make()  # type: ignore[operator]
