"""easy-VQA's images with captions, against their pixels."""

import pytest
import torch

from distill.data.easy_captions import SHAPES, settled
from distill.data.easy_vqa import Question
from tests.data.test_base import from_config

RGB = {
    "black": (0, 0, 0), "blue": (0, 0, 255), "brown": (165, 42, 42), "gray": (128, 128, 128), "green": (0, 255, 0),
    "red": (255, 0, 0), "teal": (0, 128, 128), "yellow": (255, 255, 0),
}  # fmt: skip


def test_easy_captions__say_what_the_pixels_show() -> None:
    pytest.importorskip("easy_vqa", reason="the extra vqa is not installed")
    data = from_config("dataset=easy_captions", "dataset.val_fraction=0", "dataset.resident_gb=0")
    assert [len(data.splits[name]) for name in ("train", "test")] == [3578, 888]
    split = data.splits["test"]
    filled: dict[str, list[float]] = {shape: [] for shape in SHAPES}
    for i in range(0, 888, 8):
        color, shape = split.classes[int(split.target[i])].split()
        image = split.gather(torch.tensor([i]))[0]
        painted = (image == torch.tensor(RGB[color], dtype=torch.uint8)[:, None, None]).all(0)
        y, x = painted.nonzero().unbind(1)
        filled[shape].append(len(y) / float((y.max() - y.min() + 1) * (x.max() - x.min() + 1)))
        told = [data.texts[row] for row in split.notes.text[i]]
        assert told == [f"a {color} {shape}", f"a picture of a {color} {shape}", f"the {shape} is {color}"]
    share = {shape: sum(found) / len(found) for shape, found in filled.items()}
    assert share["triangle"] < 0.6 < share["circle"] < 0.9 < share["rectangle"]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ([("what is the blue shape?", "circle")], "circle"),
        ([("what color is the triangle?", "red")], "triangle"),
        ([("is there not a circle?", "no")], "circle"),
        ([("is no circle present?", "yes"), ("does the image contain a rectangle?", "no")], "triangle"),
        ([("is there a circle?", "no")], None),
        ([], None),
    ],
)
def test_settled__hand_worked(asked: list[tuple[str, str]], answer: str | None) -> None:
    assert settled([Question(*both, 0) for both in asked], SHAPES) == answer


def test_easy_captions__templates_need_their_words() -> None:
    with pytest.raises(ValueError, match=r"dataset.captions: template 'a shape' must have {color} or {shape}"):
        from_config("dataset=easy_captions", "dataset.captions=[a shape]")
