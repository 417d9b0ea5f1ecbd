"""Questions about scenes have the answer that the scene gives, and only one; boxes are of what is asked about."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch

from distill.data.base import ArrayImages
from distill.data.shapes import TEST, TRAIN
from distill.data.shapes_vqa import ShapesVQA
from tests.data.test_base import from_config

EVERY = ["dataset.questions=[color,shape,presence,count,relation]", "dataset.per_image=6"]
SAME = [*EVERY, "dataset.distinct=false", "dataset.num_classes=18"]


def asked(*overrides: str, images: int = 150, test_images: int = 60) -> ShapesVQA:
    few = [f"dataset.images={images}", f"dataset.test_images={test_images}"]
    data = from_config("dataset=shapes_vqa", *few, *overrides)
    assert isinstance(data, ShapesVQA)
    return data


class Case(NamedTuple):
    """A question with what is in its image: names and boxes of the objects."""

    text: str
    answer: str
    kind: str
    box: tuple[float, ...]
    names: list[str]
    boxes: list[tuple[int, ...]]


def cases(data: ShapesVQA, split: int = TEST) -> Iterator[Case]:
    scenes, images = data.scenes(split), data.splits["train" if split == TRAIN else "test"]
    assert isinstance(images, ArrayImages)
    assert images.rows is not None
    for row, target, text, box, kind in zip(
        images.rows.tolist(), images.target.tolist(), images.notes.text[:, 0], images.notes.box, images.notes.kind,
        strict=True,
    ):  # fmt: skip
        count = int(scenes.objects[row])
        pairs = zip(scenes.color[row, :count], scenes.shape[row, :count], strict=True)
        names = [f"{data.colors[c]} {data.shapes[s]}" for c, s in pairs]
        boxes = [tuple(b) for b in scenes.box[row, :count].tolist()]
        yield Case(data.texts[text], images.classes[target], data.kinds[kind], tuple((box * 64).tolist()), names, boxes)


def answer(case: Case) -> tuple[str, str | None]:
    """Return the answer that the scene gives, and the name of the object asked about."""
    text, names = case.text, case.names
    if found := re.fullmatch(r"what color is the (\w+)\?", text):
        (name,) = [n for n in names if n.split()[1] == found[1]]  # fails where there are two
        return name.split()[0], name
    if found := re.fullmatch(r"what shape is the (\w+) one\?", text):
        (name,) = [n for n in names if n.split()[0] == found[1]]
        return name.split()[1], name
    if found := re.fullmatch(r"is there an? (\w+ \w+)\?", text):
        return ("yes", found[1] if names.count(found[1]) == 1 else None) if found[1] in names else ("no", None)
    if text == "how many objects are there?":
        return str(len(names)), None
    if found := re.fullmatch(r"how many (\w+)( objects|s) are there\?", text):
        word = found[1].removesuffix("e") if found[1] == "crosse" else found[1]
        return str(sum(word in name.split() for name in names)), None
    found = re.fullmatch(r"is the (\w+ \w+) (left of|right of|above|below) the (\w+ \w+)\?", text)
    assert found is not None, text
    assert names.count(found[1]) == names.count(found[3]) == 1
    one, other = (case.boxes[names.index(found[i])] for i in (1, 3))
    axis = 0 if found[2] in ("left of", "right of") else 1
    assert one[axis + 2] <= other[axis] or other[axis + 2] <= one[axis], "no relation without doubt"
    before = one[axis] < other[axis]
    return ("yes" if before == (found[2] in ("left of", "above")) else "no"), found[1]


@pytest.mark.parametrize("overrides", [[], SAME])
def test_shapes_vqa__the_scene_gives_the_one_answer_and_the_box(overrides: list[str]) -> None:
    data = asked(*overrides)
    seen = list(cases(data))
    for case in seen:
        expected, about = answer(case)
        assert case.answer == expected, case
        if about is None:
            assert all(value != value for value in case.box)
        else:
            assert case.box == case.boxes[case.names.index(about)]
    assert {case.kind for case in seen} == set(data.kinds)


def test_shapes_vqa__the_reference_run_has_its_numbers() -> None:
    data = asked("dataset.val_fraction=0")
    assert data.classes == [*data.colors, *data.shapes]
    assert len(data.classes) == 11
    train = data.splits["train"]
    assert len(train) == 300
    assert train.source_size == 300
    assert torch.equal(train.ids, torch.arange(300))
    assert len({(int(r), int(t)) for r, t in zip(train.rows, train.notes.text[:, 0], strict=True)}) == 300


def test_shapes_vqa__yes_and_no_are_equally_frequent() -> None:
    data = asked("dataset.questions=[presence,relation]", "dataset.num_classes=2", "dataset.per_image=4")
    for kind in ("presence", "relation"):
        found = Counter(case.answer for case in cases(data, TRAIN) if case.kind == kind)
        assert 0.4 < found["yes"] / found.total() < 0.6


def test_shapes_vqa__fewer_images_are_the_first_ones() -> None:
    few, many = asked("dataset.val_fraction=0"), asked("dataset.val_fraction=0", images=160)
    n = len(few.splits["train"])
    assert [few.texts[i] for i in few.splits["train"].notes.text[:, 0]] == [
        many.texts[i] for i in many.splits["train"].notes.text[:n, 0]
    ]
    every = torch.arange(n)
    assert torch.equal(few.splits["train"].gather(every), many.splits["train"].gather(every))


def test_shapes_vqa__validation_has_images_of_its_own() -> None:
    data = asked()
    train, val = data.splits["train"], data.splits["val"]
    assert isinstance(train, ArrayImages)
    assert isinstance(val, ArrayImages)
    assert not set(train.rows.tolist()) & set(val.rows.tolist())
    assert len(val.rows.unique()) == 15
    assert len(val) == 30
    assert sorted([*train.ids.tolist(), *val.ids.tolist()]) == list(range(300))
    assert data.eval_names == ["val", "test"]


def test_shapes_vqa__held_out_pairs() -> None:
    held = [*SAME, "dataset.held_out=6"]
    data = asked(*held)
    assert data.kinds[5:] == [f"{k}, unseen pair" for k in ("color", "shape", "presence", "relation")]
    names = {name for row in data.names for name in row}
    unseen = names - {n for case in cases(data, TRAIN) for n in case.names}
    assert len(unseen) >= 6
    assert not any(pair in case.text for case in cases(data, TRAIN) for pair in unseen)
    flat = [name for row in data.names for name in row]
    out = {flat[i] for i in data.unseen.tolist()}
    assert out <= unseen
    for case in cases(data):
        about = answer(case)[1] or next(iter(re.findall(r"is there an? (\w+ \w+)", case.text)), None)
        assert case.kind.endswith("unseen pair") == (about in out)
    only = asked(*held, "dataset.test_pairs=unseen")
    assert len(only.kinds) == 5
    for case in cases(only):
        assert any(n in out for n in case.names)
        assert case.kind != "count"
        assert (answer(case)[1] or re.findall(r"is there an? (\w+ \w+)", case.text)[0]) in out


def test_shapes_vqa__blind_images_are_grey_and_all_else_is_the_same() -> None:
    data, blind = asked(), asked("dataset.blind=true")
    for name, split in blind.splits.items():
        assert (split.gather(torch.arange(len(split))) == 128).all()
        other = data.splits[name]
        assert torch.equal(split.target, other.target)
        assert torch.equal(split.ids, other.ids)
        assert (split.source_size, split.shape) == (other.source_size, other.shape)
    batch = next(iter(blind.train_batches()))
    assert batch.text is not None
    assert batch.box is not None


def test_shapes_vqa__moves_but_does_not_mirror_what_is_left_and_right() -> None:
    data = asked(*SAME, "dataset/augment=crop_flip", "dataset.augment.flip=false")
    batch = next(iter(data.train_batches()))
    assert batch.box is None  # it would have to move with the image
    assert batch.text is not None


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["dataset.questions=[]"], r"dataset.questions=\[\]: must be different kinds"),
        (["dataset.questions=[color,color]"], "must be different kinds"),
        (["dataset.per_image=0"], "dataset.per_image=0: must be from 1 to 30"),
        (["dataset.questions=[count]", "dataset.held_out=3", "dataset.test_pairs=unseen"], "count asks about no pair"),
        (["dataset/augment=cutout", "dataset.questions=[relation]"], "set flip of dataset.augment to false"),
        (["dataset/mix=mixup"], "dataset.mix: a question is about one image"),
        (["dataset.questions=[color]"], "set dataset.num_classes=6"),
        (["dataset.val_fraction=0.001"], "leaves 300 training and 0 validation questions"),
    ],
)
def test_shapes_vqa__says_what_is_wrong(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked(*overrides).verify()
