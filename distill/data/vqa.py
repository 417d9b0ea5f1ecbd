"""VQA: your own questions about images in the files of VQA v2, every question answered by ten people."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from distill.data.base import FileImages, Notes
from distill.data.captions import Rows
from distill.data.image_folder import PathSource
from distill.data.questions import QuestionData

KINDS = ("yes/no", "number", "other")
DIGITS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_PUNCTUATION = re.compile(r"(?<!\d)[.,](?!\d)|[;/\[\]\"{}()=+\\_<>@`?!]")


class Asked(NamedTuple):
    """A question: words, image number, kind, and how many people gave each answer, the most frequent first."""

    number: int
    text: str
    image: int
    kind: int
    given: Counter[str]


@dataclass(kw_only=True, eq=False, repr=False)
class VQA(QuestionData):
    """Visual question answering as in VQA v2 (Goyal et al. 2017); an answer's credit is how many people gave it.

    The classes are answers. Training questions none of whose answers is a class are left out; test questions are not,
    and no answer to them gets credit.

    Args:
        root: folder that the files below are in.
        train_questions: JSON, ``{"questions": [{"question_id", "image_id", "question"}]}``.
        train_annotations: JSON, ``{"annotations": [{"question_id", "answer_type", "answers": [{"answer"}]}]}``.
        train_images: folder with the images.
        test_questions: as for training.
        test_annotations: as for training.
        test_images: as for training.
        image_name: file name of an image, with ``{folder}`` and ``{id}``.
        answers: file with an answer a line, the classes; None for the ``num_classes`` most frequent in training.
        outside: whether a question none of whose answers is in the file of answers is a mistake (``error``), or gets
            no credit (``zero``), as it always does without a file.
        averaged: average credit over the ways of leaving one person out, as the challenge does; else
            ``min(count / 3, 1)``.
    """

    root: str
    train_questions: str
    train_annotations: str
    train_images: str
    test_questions: str
    test_annotations: str
    test_images: str
    image_name: str
    answers: str | None
    outside: Literal["error", "zero"]
    averaged: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        self._classes: list[str] = []

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of answers, as the annotations name them."""
        return KINDS

    @property
    def absent(self) -> Sequence[str]:
        """All answers: one in a file, or one that nobody gives most often, may be asked for by no training question."""
        return self._classes

    def ask(self) -> tuple[FileImages, FileImages]:
        """Return training and test questions.

        Raises:
            FileNotFoundError: when a file, or an image, is missing.
            ValueError: when a file cannot be read, or the answers in it are no classes.
        """
        splits = ("train", "test")
        train, test = (self._asked(split) for split in splits)
        self._classes = self._file() if self.answers is not None else self._frequent(train)
        rows = Rows()
        made = [self._split(split, asked, rows) for split, asked in zip(splits, (train, test), strict=True)]
        self._texts = rows.texts
        return made[0], made[1]

    def _path(self, key: str) -> Path:
        path = Path(self.root).expanduser() / getattr(self, key)
        if not path.exists():
            raise FileNotFoundError(f"dataset.{key}={getattr(self, key)}: there is no {path}; set it, or dataset.root")
        return path

    def _asked(self, split: str) -> list[Asked]:
        questions = _listed(self._path(f"{split}_questions"), "questions", ("question_id", "image_id", "question"))
        path = self._path(f"{split}_annotations")
        known = {entry["question_id"]: entry for entry in _listed(path, "annotations", ("question_id", "answers"))}
        missing = [q["question_id"] for q in questions if q["question_id"] not in known]
        if missing:
            raise ValueError(f"{path}: has no answers to {len(missing)} of {len(questions)} questions, as {missing[0]}")
        return [
            Asked(
                q["question_id"], q["question"], q["image_id"], _kind(known[q["question_id"]]),
                _given(path, known[q["question_id"]]),
            )
            for q in questions
        ]  # fmt: skip

    def _file(self) -> list[str]:
        path = self._path("answers")
        words = [normalised(line) for line in path.read_text().splitlines() if line.strip()]
        if not words or len(set(words)) < len(words):
            what = f"has {Counter(words).most_common(1)[0][0]!r} twice" if words else "is empty"
            raise ValueError(f"dataset.answers={self.answers}: {what}; it must have one answer a line")
        return words

    def _frequent(self, asked: Sequence[Asked]) -> list[str]:
        """Return the answers that are the most given ones of most questions."""
        kept = self.class_subset if isinstance(self.class_subset, list) else []  # of what is read here
        size = max([self.num_classes, *(i + 1 for i in kept)])
        return [word for word, _ in Counter(_best(q) for q in asked).most_common(size)]

    def _split(self, split: str, asked: Sequence[Asked], rows: Rows) -> FileImages:
        number = {word: i for i, word in enumerate(self._classes)}
        none = [question for question in asked if not any(word in number for word in question.given)]
        if none and self.answers is not None and self.outside == "error":
            raise ValueError(
                f"dataset.answers={self.answers}: has no answer to {len(none)} of {len(asked)} {split} questions, such "
                f"as {_best(none[0])!r} (question {none[0].number}); add them, or set dataset.outside=zero"
            )
        if split == "train":
            asked = [question for question in asked if any(word in number for word in question.given)]
        paths, place = self._images(split, asked)
        credit = [[(number[w], self._credit(n)) for w, n in q.given.items() if w in number] for q in asked]
        width = max([1, *map(len, credit)])
        padded = torch.tensor([[*c, *[(-1, 0.0)] * (width - len(c))] for c in credit], dtype=torch.float64)
        answers = padded[:, :, 0].long()
        notes = Notes(
            text=torch.tensor([[rows(question.text)] for question in asked], dtype=torch.int64),
            answers=answers, credit=padded[:, :, 1].float(),
            kind=torch.tensor([question.kind for question in asked], dtype=torch.int64),
        )  # fmt: skip
        target = answers[:, 0].clamp(min=0)
        shown = torch.tensor([place[question.image] for question in asked], dtype=torch.int64)
        size, every = self.image_size, torch.arange(len(asked))
        source = PathSource(paths)
        return FileImages(source, target, self._classes, self.channels, size, shown, notes, every, len(asked))

    def _images(self, split: str, asked: Sequence[Asked]) -> tuple[list[str], Mapping[int, int]]:
        """Return the files of the images that are asked about, and the place of each by its number."""
        folder = self._path(f"{split}_images")
        numbers = sorted({question.image for question in asked})
        try:
            names = [self.image_name.format(folder=folder.name, id=number) for number in numbers]
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"dataset.image_name={self.image_name}: must be a name with {{folder}} and {{id}} ({error})"
            ) from error
        there = set(os.listdir(folder))  # noqa: PTH208 - names only, of a hundred thousand files
        missing = [name for name in names if name not in there]
        if missing:
            raise FileNotFoundError(f"{folder}: {len(missing)} of {len(names)} images are missing, as {missing[0]}")
        return [str(folder / name) for name in names], {number: i for i, number in enumerate(numbers)}

    def _credit(self, count: int) -> float:
        return averaged_credit(count) if self.averaged else min(count / 3, 1.0)


def averaged_credit(count: int, people: int = 10) -> float:
    """Return the mean of ``min(count / 3, 1)`` over the ways of leaving one of the people out."""
    return (count * min((count - 1) / 3, 1) + (people - count) * min(count / 3, 1)) / people


@cache
def normalised(answer: str) -> str:
    """Return an answer in small letters, without punctuation and articles, number words as digits, as it is scored."""
    words = _PUNCTUATION.sub(" ", answer.lower()).split()
    return " ".join(DIGITS.get(word, word) for word in words if word not in ("a", "an", "the"))


def _best(question: Asked) -> str:
    return next(iter(question.given))


def _kind(entry: Mapping[str, Any]) -> int:
    kind = entry.get("answer_type")
    return KINDS.index(kind if kind in KINDS else "other")


def _given(path: Path, entry: Mapping[str, Any]) -> Counter[str]:
    try:
        found = Counter(normalised(given["answer"]) for given in entry["answers"])
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: question {entry['question_id']} has no list of answers") from error
    if not found:
        raise ValueError(f"{path}: question {entry['question_id']} has no answer")
    return Counter(dict(found.most_common()))


def _listed(path: Path, key: str, needed: Sequence[str]) -> list[dict[str, Any]]:
    """Return a list in a JSON file, every entry of which has some keys."""
    try:
        whole = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error}); copy or get it again") from error
    found: Any = whole.get(key) if isinstance(whole, dict) else None
    some = isinstance(found, list) and len(found) > 0
    if not some or not all(isinstance(entry, dict) and all(k in entry for k in needed) for entry in found):
        raise ValueError(f'{path}: must be {{"{key}": [...]}} with {", ".join(needed)} in every entry')
    return list(found)
