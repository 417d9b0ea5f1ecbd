"""Scenes are what their annotations say; captions are true; held-out pairs are never trained on."""

from itertools import combinations
from typing import Any

import pytest
import torch

from distill.data.base import ImageData
from distill.data.captions import article, place, relation
from distill.data.scenes import COLORS, SHAPES, Scenes, draw_scenes, mask, paint
from distill.data.shapes import TEST, TRAIN, Shapes
from tests.data.test_base import from_config

ALL = torch.arange(30)


def shapes(*overrides: str, seed: int = 0) -> Shapes:
    data = from_config("dataset=shapes", "dataset.images=300", "dataset.test_images=40", *overrides, seed=seed)
    assert isinstance(data, Shapes)
    return data


def scenes(images: int = 200, **changed: Any) -> Scenes:
    arguments = {"objects": (2, 4), "size": (64, 64), "first": ALL, "others": ALL, "distinct": False, "shapes": 5,
                 "seed": 0, "split": 0}  # fmt: skip
    return draw_scenes(images, **{**arguments, **changed})


def read(data: ImageData, name: str, *rows: int) -> torch.Tensor:
    return data.splits[name].gather(torch.tensor(rows or range(len(data.splits[name]))))


def test_draw_scenes__one_object_is_clearly_the_largest_and_none_overlap() -> None:
    found = scenes()
    assert found.objects.unique().tolist() == [2, 3, 4]
    for count, boxes in zip(found.objects.tolist(), found.box.tolist(), strict=True):
        sides = [right - left for left, _, right, _ in boxes[:count]]
        assert sides[0] > 1.4 * max(sides[1:])
        for left, top, right, bottom in boxes[:count]:
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64
        for one, other in combinations(boxes[:count], 2):
            assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def test_draw_scenes__more_images_begin_with_the_same_ones_and_splits_differ() -> None:
    few, many, other = scenes(20), scenes(50), scenes(20, split=1)
    there = few.there
    assert all(torch.equal(a[there], b[:20][there]) for a, b in zip(few[2:], many[2:], strict=True))
    assert torch.equal(few.objects, many.objects[:20])
    assert not torch.equal(few.box, other.box)
    assert not torch.equal(few.box, scenes(20, seed=1).box)


def test_draw_scenes__distinct() -> None:
    found = scenes(distinct=True)
    for count, colors, kinds in zip(found.objects.tolist(), found.color.tolist(), found.shape.tolist(), strict=True):
        assert len(set(colors[:count])) == len(set(kinds[:count])) == count


def test_mask__areas_are_those_of_geometry_and_the_largest_has_the_larger_area() -> None:
    areas = {"circle": torch.pi / 4, "square": 1, "triangle": 0.5, "cross": 2 * 0.36 - 0.36**2,
             "ring": torch.pi / 4 * 0.7, "diamond": 0.5}  # fmt: skip
    assert set(areas) == set(SHAPES)
    for name, share in areas.items():
        assert mask(name, 200).mean() == pytest.approx(share, abs=0.01)
    assert min(mask(name, 26).sum() for name in SHAPES) > mask("square", 17).sum()


def test_paint__colour_and_shape_stand_in_their_boxes_and_the_ground_is_grey() -> None:
    found, palette = scenes(20), list(COLORS)[:6]
    images = paint(found, (64, 64), palette, SHAPES[:5], 0.0, 0, 0).float()
    coloured = images.max(1).values > images.min(1).values
    for image, filled, count, colors, kinds, boxes in zip(images, coloured, *found[1:], strict=True):
        left_over = filled.clone()
        for color, kind, (left, top, right, bottom) in zip(
            colors[:count], kinds[:count], boxes[:count].tolist(), strict=True
        ):
            wanted = torch.from_numpy(mask(SHAPES[kind], right - left).copy())
            assert torch.equal(filled[top:bottom, left:right], wanted)
            pixel = image[:, top:bottom, left:right][:, wanted].mean(1)
            rgb = torch.tensor(COLORS[palette[color]]).float()
            assert torch.allclose(pixel / pixel.sum(), rgb / rgb.sum(), atol=0.01)
            left_over[top:bottom, left:right] = False
        assert not left_over.any()


def test_paint__noise_has_its_strength_and_does_not_depend_on_the_number_of_images() -> None:
    found = scenes(300)
    plain, noisy = (paint(found, (64, 64), list(COLORS)[:6], SHAPES[:5], n, 0, 0).int() for n in (0.0, 0.1))
    change = noisy - plain
    assert (int(change.min()), int(change.max())) == (-26, 25)
    assert change.float().mean().abs() < 1
    assert change.float().std() == pytest.approx(52 / 12**0.5, rel=0.02)
    few = Scenes(*(value[255:258] for value in found))  # across two pieces
    assert torch.equal(paint(few, (64, 64), list(COLORS)[:6], SHAPES[:5], 0.1, 0, 0).int(), noisy[255:258])


def test_shapes__class_and_box_are_those_of_the_largest() -> None:
    data = shapes()
    found, test = data.scenes(TEST), data.splits["test"]
    assert data.classes[:6] == ["red circle", "red square", "red triangle", "red cross", "red ring", "green circle"]
    assert [data.classes[t] for t in test.target] == [
        f"{data.colors[c]} {data.shapes[s]}" for c, s in zip(found.color[:, 0], found.shape[:, 0], strict=True)
    ]
    assert test.notes.box is not None
    assert torch.equal(test.notes.box * 64, found.box[:, 0].float())


def test_shapes__captions_are_true() -> None:
    data = shapes("dataset.captions=6")
    found, notes = data.scenes(TEST), data.splits["test"].notes
    assert notes.text is not None
    for row, target, count, colors, kinds, boxes in zip(
        notes.text.tolist(), data.splits["test"].target, *found[1:], strict=True
    ):
        said = [data.texts[i] for i in row]
        names = [f"{data.colors[c]} {data.shapes[s]}" for c, s in zip(colors[:count], kinds[:count], strict=True)]
        assert len(set(said)) == 6
        assert article(f"the largest object is a {data.classes[target]}") in said
        (ordered,) = [text for text in said if text.startswith("from left to right ")]
        order = sorted(range(len(names)), key=lambda i: int(boxes[i, 0] + boxes[i, 2]))
        assert [w for w in ordered.replace(",", " ").replace(" and ", " ").split() if w in data.colors] == [
            names[i].split()[0] for i in order
        ]
        for words in (" left of ", " right of ", " above ", " below "):
            for text in (t for t in said if words in t):
                one, other = boxes[0].float(), boxes[1].float()
                axis = 0 if words in (" left of ", " right of ") else 1
                less = bool(one[axis] + one[axis + 2] < other[axis] + other[axis + 2])
                assert less == (words in (" left of ", " above "))
                assert text == article(f"a {names[0]}{words}a {names[1]}")


def test_captions__words_by_hand() -> None:
    assert relation((0, 0, 10, 10), (20, 5, 30, 15)) == "left of"
    assert relation((0, 30, 10, 40), (5, 0, 15, 10)) == "below"
    assert place((0, 0, 10, 10), (60, 60)) == "at the top left"
    assert place((25, 25, 35, 35), (60, 60)) == "in the middle"
    assert place((50, 30, 58, 32), (60, 60)) == "at the right"
    assert article("a orange ring and a red cross") == "an orange ring and a red cross"


def test_shapes__the_runs_seed_draws_captions_and_no_data() -> None:
    one, other = shapes(), shapes(seed=1)
    assert torch.equal(read(one, "train"), read(other, "train"))
    batches = [next(iter(data.train_batches())) for data in (one, one, other)]
    assert batches[0].text is not None
    assert torch.equal(batches[0].text, batches[1].text)
    index = batches[0].index
    rows = one.splits["train"].notes.text
    assert rows is not None
    assert bool((rows[index] == batches[0].text[:, None]).any(1).all())
    assert not torch.equal(read(one, "train"), read(shapes("dataset.scene_seed=1"), "train"))


@pytest.mark.parametrize("held_out", ["7", "[red circle,blue ring]"])
def test_shapes__held_out_pairs_are_in_no_training_image(held_out: str) -> None:
    data = shapes(f"dataset.held_out={held_out}")
    assert len(data.unseen) == len(data.absent) == (7 if held_out == "7" else 2)
    found = data.scenes(TRAIN)
    shown = (found.color * 5 + found.shape)[found.there]
    assert not torch.isin(shown, data.unseen).any()
    notes = data.splits["train"].notes
    assert notes.text is not None
    texts = [data.texts[i] for i in notes.text.unique().tolist()]
    assert not any(name in text for text in texts for name in data.absent)
    counts = torch.bincount(data.splits["train"].target, minlength=30)
    assert (counts == 0).nonzero()[:, 0].tolist() == data.unseen.tolist()


@pytest.mark.parametrize("asked, share", [("seen", 0.0), ("unseen", 1.0), ("all", None)])
def test_shapes__test_images_are_about_the_pairs_that_are_asked_for(asked: str, share: float | None) -> None:
    data = shapes("dataset.held_out=6", f"dataset.test_pairs={asked}")
    assert data.kinds == ("seen", "unseen")
    test = data.splits["test"]
    assert test.notes.kind is not None
    mean = test.notes.kind.float().mean().item()
    assert torch.equal(test.notes.kind == 1, torch.isin(test.target, data.unseen))
    assert 0 < mean < 1 if share is None else mean == share


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["dataset.colors=[red,mauve]"], "dataset.colors=.*must be different ones of red, green"),
        (["dataset.objects=[3,2]"], r"dataset.objects=\[3, 2\]: must be \[smallest, largest\]"),
        (["dataset.objects=[2,6]", "dataset.distinct=true"], "no more than 5"),
        (["dataset.image_size=[16,64]"], "sides of at least 32"),
        (["dataset.objects=[8,8]"], "cannot hold so many without overlap"),
        (["dataset.held_out=[red cube]"], "red cube is no pair; one is red circle"),
        (["dataset.held_out=30"], "leaves a colour or a shape without"),
        (["dataset.test_pairs=unseen"], "no pair is held out; set dataset.held_out"),
        (["dataset.captions=9"], "must be from 0 to 6"),
        (["dataset/augment=crop_flip"], "dataset.captions=4: some say left or right"),
        (["dataset.noise=2"], "dataset.noise=2: must be in"),
        (["dataset.images=0"], "dataset.images=0: must be at least 1"),
        (["dataset.shapes=[circle,ring]"], "set dataset.num_classes=12"),
    ],
)
@pytest.mark.slow
def test_shapes__says_what_is_wrong(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shapes(*overrides).verify()
