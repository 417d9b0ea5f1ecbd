"""easy-VQA: 48,248 questions about 5,000 images of one shape each, which a package on PyPI brings along."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from distill.data.base import FileImages, Notes
from distill.data.captions import Rows
from distill.data.image_folder import PathSource
from distill.data.questions import QuestionData

KINDS = ("open", "yes/no")
YES_NO = ("yes", "no")


class Question(NamedTuple):
    """A question, its answer, and the position of its image among those of its split."""

    text: str
    answer: str
    image: int


def package_folder() -> Path:
    """Return the folder of the data in the package; nothing of it is imported, for it is data and needs no code.

    Raises:
        ValueError: when the package is not installed.
    """
    spec = importlib.util.find_spec("easy_vqa")
    if spec is None or spec.origin is None:
        raise ValueError("easy-VQA needs the package easy-vqa: pip install 'distill[vqa]'")
    return Path(spec.origin).parent / "data"


@contextmanager
def known(folder: Path) -> Iterator[None]:
    """Say which folder it was when what is read of it is not what it should be.

    Raises:
        ValueError: then.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: not the data of easy-vqa 1.0 ({error}); install it again") from error


def questions(folder: Path) -> tuple[list[str], list[Question]]:
    """Return the paths of a split's images by number, and its questions in the order of the file."""
    paths = sorted((folder / "images").glob("*.png"), key=lambda path: int(path.stem))
    place = {int(path.stem): i for i, path in enumerate(paths)}
    asked = json.loads((folder / "questions.json").read_text())
    return [str(path) for path in paths], [Question(text, answer, place[image]) for text, answer, image in asked]


@dataclass(kw_only=True, eq=False, repr=False)
class EasyVQA(QuestionData):
    """38,575 training and 9,673 test questions, 4,000 and 1,000 images of 64x64, 13 answers (Zhou 2019).

    Words alone answer 67.0 % of the test questions, 23.3 % of the open ones; where the shape is, is not known.
    """

    @property
    def kinds(self) -> tuple[str, ...]:
        """Questions for a colour or shape, and those with yes or no for an answer."""
        return KINDS

    def ask(self) -> tuple[FileImages, FileImages]:
        """Return training and test questions.

        Raises:
            ValueError: when the package is not installed, or is not the one that is known.
        """
        folder, rows = package_folder(), Rows()
        with known(folder):
            # the order of the file is that of no dictionary, and so the same everywhere
            classes = (folder / "answers.txt").read_text().split()
            train, test = (self._split(folder / name, classes, rows) for name in ("train", "test"))
        self._texts = rows.texts
        return train, test

    def _split(self, folder: Path, classes: list[str], rows: Rows) -> FileImages:
        paths, asked = questions(folder)
        number = {name: i for i, name in enumerate(classes)}
        shown = torch.tensor([question.image for question in asked], dtype=torch.int64)
        target = torch.tensor([number[question.answer] for question in asked], dtype=torch.int64)
        text = torch.tensor([[rows(question.text)] for question in asked], dtype=torch.int64)
        kind = torch.tensor([int(question.answer in YES_NO) for question in asked], dtype=torch.int64)
        source, every = PathSource(paths), torch.arange(len(asked))
        notes = Notes(text, kind=kind)
        return FileImages(source, target, classes, self.channels, self.image_size, shown, notes, every, len(asked))
