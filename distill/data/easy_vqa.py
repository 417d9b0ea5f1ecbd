"""easy-VQA: 48,248 questions about 5,000 images of one shape each, which a package on PyPI brings along."""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from distill.data.base import FileImages, Notes
from distill.data.captions import Rows
from distill.data.image_folder import PathSource
from distill.data.questions import QuestionData

KINDS = ("open", "yes/no")


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
        # found, not imported: the package is data, and needs none of its code
        spec = importlib.util.find_spec("easy_vqa")
        if spec is None or spec.origin is None:
            raise ValueError("dataset=easy_vqa needs the package easy-vqa: pip install 'distill[vqa]'")
        folder, rows = Path(spec.origin).parent / "data", Rows()
        try:
            # the order of the file is that of no dictionary, and so the same everywhere
            classes = (folder / "answers.txt").read_text().split()
            train, test = (self._split(folder / name, classes, rows) for name in ("train", "test"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{folder}: not the data of easy-vqa 1.0 ({error}); install it again") from error
        self._texts = rows.texts
        return train, test

    def _split(self, folder: Path, classes: list[str], rows: Rows) -> FileImages:
        asked = json.loads((folder / "questions.json").read_text())
        paths = sorted((folder / "images").glob("*.png"), key=lambda path: int(path.stem))
        place, number = {int(path.stem): i for i, path in enumerate(paths)}, {name: i for i, name in enumerate(classes)}
        shown = torch.tensor([place[image] for _, _, image in asked], dtype=torch.int64)
        target = torch.tensor([number[answer] for _, answer, _ in asked], dtype=torch.int64)
        text = torch.tensor([[rows(words)] for words, _, _ in asked], dtype=torch.int64)
        kind = torch.tensor([int(answer in ("yes", "no")) for _, answer, _ in asked], dtype=torch.int64)
        source, every = PathSource([str(path) for path in paths]), torch.arange(len(asked))
        notes = Notes(text, kind=kind)
        return FileImages(source, target, classes, self.channels, self.image_size, shown, notes, every, len(asked))
