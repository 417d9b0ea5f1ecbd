"""Views have numbers: every number is another image, and a drawn view has the number of the image that it is."""

from __future__ import annotations

import pytest
import torch

from distill.cache.views import Cycled, Finite
from distill.data.augment import Augment, Compose, CropFlip, ResizedCropFlip
from distill.data.base import Views
from distill.data.images import ArrayImages

AUGMENTS = [CropFlip(4, flip=True), CropFlip(2, flip=False), CropFlip(0, flip=True)]
AUGMENTS_AND_BOTH = [*AUGMENTS, Compose([CropFlip(1, flip=True), CropFlip(2, flip=False)])]


@pytest.mark.parametrize("augment", AUGMENTS_AND_BOTH)
def test_number_and_nth__are_inverse(augment: Augment) -> None:
    shape = (1, 6, 6)
    views = augment.views(shape)
    assert views is not None
    numbers = torch.arange(views)
    assert torch.equal(augment.number(augment.nth(numbers, shape), shape), numbers)
    index = torch.arange(500)
    params = augment.sample(0, index * 0 + 7, index, shape)
    drawn = augment.number(params, shape)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < views
    images = torch.randint(0, 256, (500, *shape), dtype=torch.uint8)
    assert torch.equal(augment.apply(images, augment.nth(drawn, shape)), augment.apply(images, params))


def test_views__crop_and_flip_of_cifar_are_162_different_images() -> None:
    augment, shape = CropFlip(4, flip=True), (3, 32, 32)
    image = torch.randint(1, 256, (1, *shape), dtype=torch.uint8).expand(162, -1, -1, -1)
    seen = augment.apply(image, augment.nth(torch.arange(162), shape))
    assert augment.views(shape) == 162
    assert len(seen.flatten(1).unique(dim=0)) == 162


def test_views__without_an_end_are_refused() -> None:
    endless = ResizedCropFlip((0.5, 1), (1, 1), flip=True)
    assert Compose([CropFlip(1, flip=True), endless]).views((3, 8, 8)) is None
    with pytest.raises(ValueError, match="cache.views"):
        endless.number(None, (3, 8, 8))
    with pytest.raises(ValueError, match=r"cache.views=all: ResizedCropFlip has no end of views; set cache.views"):
        Finite(endless, (3, 8, 8), 10)


def data(augment: Augment | None, slots: Finite | Cycled) -> Views:
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    rows = torch.randperm(40)[:30]
    return Views(ArrayImages(images, torch.zeros(30, dtype=torch.int64), (), rows), augment, 3, slots=slots)


def test_finite__the_slot_of_a_drawn_view_is_that_of_the_enumerated_one() -> None:
    augment = CropFlip(1, flip=True)
    slots = Finite(augment, (1, 8, 8), 40)
    views, index = data(augment, slots), torch.arange(30)
    by_slot = {}
    for number in range(slots.views):
        batch = slots.batch(views, index, number, torch.device("cpu"))
        assert batch.slot is not None
        by_slot |= dict(zip(batch.slot.tolist(), batch.inputs, strict=True))
    assert len(by_slot) == 18 * 30
    drawn = views.make(index, torch.full_like(index, 5))
    assert drawn.slot is not None
    assert torch.equal(drawn.slot % 40, views.ids)
    for slot, image in zip(drawn.slot.tolist(), drawn.inputs, strict=True):
        assert torch.equal(by_slot[slot], image)


def test_finite__without_augmentation_is_one_view() -> None:
    slots = Finite(None, (1, 8, 8), 40)
    batch = data(None, slots).make(torch.arange(30), torch.full((30,), 9))
    assert slots.views == 1
    assert batch.slot is not None
    assert int(batch.slot.max()) < 40


def test_cycled__epochs_see_the_views_in_turn() -> None:
    slots = Cycled(3, 40)
    views, index = data(ResizedCropFlip((0.5, 1), (1, 1), flip=True), slots), torch.arange(30)
    epochs = [views.make(index, torch.full_like(index, epoch)) for epoch in range(6)]
    for first, again in zip(epochs[:3], epochs[3:], strict=True):
        assert torch.equal(first.inputs, again.inputs)
        assert first.slot is not None
        assert again.slot is not None
        assert torch.equal(first.slot, again.slot)
    assert len(torch.cat([batch.slot for batch in epochs[:3] if batch.slot is not None]).unique()) == 90
    ahead = slots.batch(views, index, 2, torch.device("cpu"))
    assert torch.equal(ahead.inputs, epochs[2].inputs)


def test_batch__keeps_its_slot_where_it_goes() -> None:
    batch = data(None, Finite(None, (1, 8, 8), 40)).make(torch.arange(4), torch.zeros(4, dtype=torch.int64))
    assert batch.to(torch.device("cpu")).slot is batch.slot
