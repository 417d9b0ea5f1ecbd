"""Questions about scenes of coloured shapes, made on the spot; only a look at the right object answers them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, NamedTuple

import torch

from distill.data.base import ArrayImages, Notes
from distill.data.captions import Rows, article
from distill.data.keyed import uniforms
from distill.data.questions import QuestionData
from distill.data.shapes import TEST, TRAIN, SceneData

_STREAM, _DRAWS = 160, 3  # of the first question; those of scenes and captions come before
MOST_QUESTIONS = 30  # of an image: streams are few
RELATIONS = {"left of": (2, 0), "right of": (0, 2), "above": (3, 1), "below": (1, 3)}
"""Which edges of the first and of the second object face each other: 0 left, 1 top, 2 right, 3 bottom."""
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NOWHERE = (float("nan"),) * 4


class Thing(NamedTuple):
    """An object of a scene: names of its colour and shape, its box in pixels, and whether its pair is held out."""

    color: str
    shape: str
    box: Sequence[float]
    unseen: bool

    @property
    def pair(self) -> tuple[str, str]:
        """Colour and shape."""
        return self.color, self.shape


class Question(NamedTuple):
    """A question: its kind, words and answer, and the object that it is about, if it is about one."""

    kind: str
    text: str
    answer: str
    about: Thing | None


@dataclass(kw_only=True, eq=False, repr=False)
class ShapesVQA(QuestionData, SceneData):
    """Questions that have one answer: an object is named only by what no other object of its image has.

    Args:
        questions: kinds of questions: ``color`` ("what color is the circle?"), ``shape`` ("what shape is the red
            one?"), ``presence`` ("is there a red circle?"), ``count`` ("how many red objects are there?"),
            ``relation`` ("is the red circle left of the blue square?"). Yes and no are equally frequent.
        per_image: questions an image, fewer where fewer can be asked.
    """

    questions: list[Literal["color", "shape", "presence", "count", "relation"]]
    per_image: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.questions or len(set(self.questions)) < len(self.questions):
            raise ValueError(f"dataset.questions={list(self.questions)}: must be different kinds, at least one")
        if not 1 <= self.per_image <= MOST_QUESTIONS:
            raise ValueError(f"dataset.per_image={self.per_image}: must be from 1 to {MOST_QUESTIONS}")
        if self.test_pairs == "unseen" and list(self.questions) == ["count"]:
            raise ValueError("dataset.test_pairs=unseen: count asks about no pair; add another kind to questions")
        if "relation" in self.questions and self.augment is not None and self.augment.mirrors:
            raise ValueError(
                f"dataset.questions={list(self.questions)}: relation asks for left and right, which change places in "
                "mirrored images; set flip of dataset.augment to false, or leave relation out"
            )

    @property
    def kinds(self) -> list[str]:
        """Kinds of questions; those about held-out pairs apart where test images have both."""
        both = len(self.unseen) and self.test_pairs == "all"
        return [*self.questions, *[f"{kind}, unseen pair" for kind in self.questions if both and kind != "count"]]

    @property
    def answers(self) -> list[str]:
        """Every answer that the kinds of questions have, in the order of the classes."""
        yes_no = {"presence", "relation"} & set(self.questions)
        least = self.objects[0] if self.distinct else 0
        return [
            *(self.colors if "color" in self.questions else []),
            *(self.shapes if "shape" in self.questions else []),
            *(["yes", "no"] if yes_no else []),
            *(map(str, range(least, self.objects[1] + 1)) if "count" in self.questions else []),
        ]

    def ask(self) -> tuple[ArrayImages, ArrayImages]:
        """Return training and test questions."""
        rows = Rows()
        train, test = self._split(TRAIN, rows), self._split(TEST, rows)
        self._texts = rows.texts
        return train, test

    def _split(self, split: int, rows: Rows) -> ArrayImages:
        scenes = self.scenes(split)
        held = set(self.unseen.tolist())
        streams = range(_STREAM, _STREAM + _DRAWS * self.per_image)
        draws = uniforms(self.scene_seed, torch.full_like(scenes.number, split << 40), scenes.number, streams).T
        asked: list[tuple[int, Question]] = []
        known = (scenes.objects.tolist(), scenes.color.tolist(), scenes.shape.tolist(), scenes.box.tolist())
        for image, (count, colors, shapes, boxes, numbers) in enumerate(zip(*known, draws.tolist(), strict=True)):
            things = [
                Thing(self.colors[c], self.shapes[s], box, c * len(self.shapes) + s in held)
                for c, s, box in zip(colors[:count], shapes[:count], boxes, strict=False)
            ]
            asked += [(image, question) for question in self._about(things, numbers, split)]
        number, kinds = {name: i for i, name in enumerate(self.answers)}, self.kinds
        target = torch.tensor([number[question.answer] for _, question in asked], dtype=torch.int64)
        notes = Notes(
            text=torch.tensor([[rows(question.text)] for _, question in asked], dtype=torch.int64),
            box=self.shares(torch.tensor([NOWHERE if q.about is None else q.about.box for _, q in asked])),
            kind=torch.tensor([kinds.index(self._kind(question)) for _, question in asked], dtype=torch.int64),
        )
        shown = torch.tensor([image for image, _ in asked], dtype=torch.int64)
        every = torch.arange(len(asked))
        return ArrayImages(self.painted(scenes, split), target, self.answers, shown, notes, every, len(asked))

    def _kind(self, question: Question) -> str:
        apart = question.about is not None and question.about.unseen and self.test_pairs == "all"
        return f"{question.kind}, unseen pair" if apart else question.kind

    def _about(self, things: list[Thing], numbers: list[float], split: int) -> Iterator[Question]:
        """Give different questions about a scene: of a kind that is drawn, or of the next that there is one of."""
        only = split == TEST and self.test_pairs == "unseen"
        said: set[str] = set()
        for i in range(self.per_image):
            first, coin, which = numbers[_DRAWS * i : _DRAWS * (i + 1)]
            start = int(first * len(self.questions))
            for kind in (*self.questions[start:], *self.questions[:start]):
                every = self._candidates(kind, things, coin < 0.5, split)
                left = [q for q in every if q.text not in said and (not only or q.about is not None and q.about.unseen)]
                if left:
                    question = left[int(which * len(left))]
                    said.add(question.text)
                    yield question
                    break

    def _candidates(self, kind: str, things: list[Thing], true: bool, split: int) -> list[Question]:
        """Return the questions of a kind that can be asked; of yes-no questions those to which the answer is yes."""
        if kind == "color":
            return [Question(kind, f"what color is the {t.shape}?", t.color, t) for t in _only(things, "shape")]
        if kind == "shape":
            return [Question(kind, f"what shape is the {t.color} one?", t.shape, t) for t in _only(things, "color")]
        if kind == "count":
            return list(self._counts(things))
        return _relations(things, true) if kind == "relation" else self._presence(things, true, split)

    def _presence(self, things: list[Thing], true: bool, split: int) -> list[Question]:
        def question(thing: Thing, answer: str, there: bool) -> Question:
            text = article(f"is there a {thing.color} {thing.shape}?")
            return Question("presence", text, answer, thing if there else thing._replace(box=NOWHERE))

        if true:
            alone = _only(things, "pair")
            return [question(t, "yes", t in alone) for t in things]
        seen = split == TRAIN or self.test_pairs == "seen"
        held = set(self.unseen.tolist())
        pairs = enumerate((color, shape) for color in self.colors for shape in self.shapes)
        there = {t.pair for t in things}
        return [
            question(Thing(*pair, NOWHERE, i in held), "no", False)
            for i, pair in pairs
            if pair not in there and not (seen and i in held)
        ]

    def _counts(self, things: list[Thing]) -> Iterator[Question]:
        yield Question("count", "how many objects are there?", str(len(things)), None)
        if self.distinct:
            return  # of each colour and shape there would be one or none
        for part, words, known in (("color", "{} objects", self.colors), ("shape", "{}s", self.shapes)):
            found = [getattr(thing, part) for thing in things]
            for word in known:
                text = words.format({"cross": "crosse"}.get(word, word))
                yield Question("count", f"how many {text} are there?", str(found.count(word)), None)


def _only(things: list[Thing], part: str) -> list[Thing]:
    """Return the objects that are the only ones with their color, shape or pair."""
    found = [getattr(thing, part) for thing in things]
    return [thing for thing, value in zip(things, found, strict=True) if found.count(value) == 1]


def _relations(things: list[Thing], true: bool) -> list[Question]:
    """Return questions for relations that hold without doubt, or for their opposites."""
    found = []
    for one, other in permutations(_only(things, "pair"), 2):
        for words, (mine, its) in RELATIONS.items():
            if one.box[mine] <= other.box[its] if mine > its else one.box[mine] >= other.box[its]:
                said, answer = (words, "yes") if true else (OPPOSITE[words], "no")
                text = f"is the {' '.join(one.pair)} {said} the {' '.join(other.pair)}?"
                found.append(Question("relation", text, answer, one))
    return found
