"""easy-VQA's images with captions: what they show, as far as the answers to their questions settle it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from distill.data.base import FileImages, ImageData, Notes
from distill.data.captions import Rows, article, check_templates
from distill.data.easy_vqa import YES_NO, Question, known, package_folder, questions
from distill.data.image_folder import PathSource

SHAPES = ("circle", "rectangle", "triangle")
COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
DENIALS = {"no", "not"}


@dataclass(kw_only=True, eq=False, repr=False)
class EasyCaptions(ImageData):
    """3,578 training and 888 test images of 64x64, 24 classes: colour and shape (Zhou 2019).

    An image belongs to it when its questions and their answers say of what colour and shape its object is.

    Args:
        captions: templates with ``{color}`` and ``{shape}``, of which each epoch draws one.
    """

    captions: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_templates(self.captions, "dataset.captions", ["color", "shape"])

    def read(self) -> tuple[FileImages, FileImages]:
        """Return training and test images.

        Raises:
            ValueError: when the package is not installed, or is not the one that is known.
        """
        pairs = [(color, shape) for color in COLORS for shape in SHAPES]
        rows = Rows()
        text = torch.tensor(
            [[rows(article(t.format(color=color, shape=shape))) for t in self.captions] for color, shape in pairs]
        )
        self._texts = rows.texts
        names = [f"{color} {shape}" for color, shape in pairs]
        folder = package_folder()
        with known(folder):
            found = [described(*questions(folder / name)) for name in ("train", "test")]
        train, test = (self._split(shown, names, text) for shown in found)
        return train, test

    def _split(self, shown: dict[str, str], names: list[str], text: torch.Tensor) -> FileImages:
        number = {name: i for i, name in enumerate(names)}
        target = torch.tensor([number[name] for name in shown.values()], dtype=torch.int64)
        source, every = PathSource([*shown]), torch.arange(len(shown))
        return FileImages(source, target, names, self.channels, self.image_size, every, Notes(text[target]))


def described(paths: Sequence[str], asked: Sequence[Question]) -> dict[str, str]:
    """Return colour and shape of the images of which both are settled, by path.

    Args:
        paths: of the images.
        asked: questions about them.
    """
    about: dict[int, list[Question]] = {}
    for question in asked:
        about.setdefault(question.image, []).append(question)
    found = {}
    for image, path in enumerate(paths):
        said = [settled(about.get(image, []), words) for words in (COLORS, SHAPES)]
        if all(said):
            found[path] = " ".join(filter(None, said))
    return found


def settled(asked: Sequence[Question], words: Sequence[str]) -> str | None:
    """Return which of words is true of what questions are about, None where they leave it open.

    An open question takes for granted what it says and is answered with the rest; yes to what is denied is a no. When
    all words but one are excluded it is that one.

    Args:
        asked: questions about one object.
        words: of which one is true.
    """
    left = set(words)
    for question in asked:
        spoken = set(re.findall(r"\w+", question.text))
        if question.answer not in YES_NO:
            left &= (spoken | {question.answer}) & left or left
        elif mentioned := spoken & set(words):
            true = (question.answer == "yes") != bool(spoken & DENIALS)
            left = left & mentioned if true else left - mentioned
    return left.pop() if len(left) == 1 else None
