"""ImageText: what losses in the embedding space of an image-text teacher have in common."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distill.connectors.forms import channels
from distill.losses.base import Loss, find_spec, require_teacher
from distill.losses.gathering import gather
from distill.losses.memory import Unshared
from distill.losses.tap_pair import unit
from distill.outputs import Anchors, Batch, Outputs, Specs, TrainingSet

TEXTS = ("captions", "classes")


class ClassVectors(Unshared):
    """Text vectors of the classes and the scale of their cosines; they follow the loss to a device.

    Args:
        anchors: of a teacher.
    """

    text: Tensor

    def __init__(self, anchors: Anchors) -> None:
        super().__init__()
        self.keep("text", anchors.text.detach().float().clone())
        self.scale = float(anchors.scale)


def class_vectors(data: TrainingSet, teacher_tap: str) -> ClassVectors:
    """Return the text vectors of the teacher that a tap belongs to.

    Raises:
        ValueError: when it has none.
    """
    owner = teacher_tap.partition("/")[0] if len(data.anchors) > 1 else next(iter(data.anchors), "")
    if owner not in data.anchors:
        named = f"; those of {', '.join(data.anchors)} are there, name one as in teacher/tap" if data.anchors else ""
        raise ValueError(
            f"needs the text vectors of the classes, and the teacher embeds no text{named}; choose an image-text "
            "teacher such as teacher=[clip]"
        )
    return ClassVectors(data.anchors[owner])


def require_one_space(student: Specs, teacher: Specs, mine: str, other: str, vectors: bool = True) -> None:
    """Refuse two features that do not lie in one embedding space.

    Args:
        student: shapes of the student.
        teacher: shapes of the teacher.
        mine: tap of the student.
        other: tap of the teacher.
        vectors: whether they have to be vectors.

    Raises:
        ValueError: names both taps and their shapes.
    """
    a, b = find_spec(student, mine, "student"), find_spec(teacher, other, "teacher")
    told = f"student tap {mine!r} has shape {a.shape} and teacher tap {other!r} {b.shape}"
    if vectors and (len(a.shape) != 1 or len(b.shape) != 1):
        raise ValueError(f"{told}: both must be vectors; take image_embedding, which student=aligned has")
    if channels(a) != channels(b):
        raise ValueError(
            f"{told}: both must lie in the teacher's embedding space; take student=aligned "
            f"student.width={channels(b)}, not {channels(a)}"
        )


class Embedded(NamedTuple):
    """Vectors of length 1 ``(N, D)`` of a batch in float32, those of the teacher detached.

    Attributes:
        image_s: of the student's images.
        text_s: of the student's texts; the teacher's, where the student embeds none.
        image_t: of the teacher's images.
        text_t: of the teacher's texts.
        same: whether two samples have the same text ``(N, N)``.
    """

    image_s: Tensor
    text_s: Tensor
    image_t: Tensor
    text_t: Tensor
    same: Tensor


class ImageText(Loss):
    """Base of losses that compare the images of a batch with its texts.

    Args:
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.
        texts: ``"captions"``: the texts are those of the batch; ``"classes"``: that of a sample is its class, whose
            text vector the teacher knows, so the text tower is not asked.
        student_text_tap: the student's vector of a caption; None for a student that embeds none, which then has the
            teacher's.
        teacher_text_tap: the teacher's vector of a caption, read with captions only.
        gather: in a distributed run, compare the samples of all processes; else each process compares its own, which
            is another loss, of a smaller batch.

    Raises:
        ValueError: for other texts, or a student with a text tap beside class texts.
    """

    def __init__(
        self,
        student_tap: str,
        teacher_tap: str,
        texts: str,
        student_text_tap: str | None,
        teacher_text_tap: str,
        gather: bool,
    ) -> None:
        super().__init__()
        if texts not in TEXTS:
            raise ValueError(f"texts must be one of {', '.join(TEXTS)}, got {texts!r}")
        if student_text_tap is not None and texts != "captions":
            raise ValueError(
                f"student_text_tap={student_text_tap} embeds captions; set texts=captions, or leave it out"
            )
        self.student_tap, self.teacher_tap, self.texts = student_tap, teacher_tap, texts
        self.student_text_tap, self.teacher_text_tap = student_text_tap, teacher_text_tap
        self.gather = gather
        self.classes: ClassVectors | None = None

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,) if self.student_text_tap is None else (self.student_tap, self.student_text_tap)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap, self.teacher_text_tap) if self.texts == "captions" else (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_one_space(student, teacher, self.student_tap, self.teacher_tap)
        if self.student_text_tap is not None:
            require_one_space(student, teacher, self.student_text_tap, self.teacher_text_tap)

    def needs_classes(self) -> bool:
        """Whether the text vectors of the classes, or their scale, are read."""
        return self.texts == "classes"

    def meet(self, data: TrainingSet) -> None:
        if self.needs_classes():
            self.classes = class_vectors(data, self.teacher_tap)

    def scaled(self, scale: float | None) -> float:
        """Return a scale that was given, else the teacher's own."""
        if scale is not None:
            return scale
        assert self.classes is not None
        return self.classes.scale

    def embedded(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Embedded:
        """Return the vectors of a batch, of all processes where they are compared.

        Raises:
            ValueError: when captions are to be read and the batch has none.
        """
        teacher = require_teacher(teacher)
        if self.texts == "captions":
            if batch.text is None:
                raise ValueError(
                    "texts=captions, and the dataset has none; choose one with captions, or set texts=classes"
                )
            text_t, which = unit(teacher.features[self.teacher_text_tap].detach().float()), batch.text
        else:
            assert self.classes is not None
            text_t, which = self.classes.text[batch.target], batch.target
        image_s = unit(student.features[self.student_tap].float())
        image_t = unit(teacher.features[self.teacher_tap].detach().float())
        own = self.student_text_tap
        text_s = text_t if own is None else unit(student.features[own].float())
        if self.gather:
            image_s, image_t, text_t, which = gather(image_s), gather(image_t), gather(text_t), gather(which)
            text_s = text_t if own is None else gather(text_s)
        return Embedded(image_s, text_s, image_t, text_t, which[:, None] == which)


def shares(same: Tensor) -> Tensor:
    """Return which text is right for each sample ``(N, N)``; of several that are the same each has an equal share."""
    return same.float() / same.sum(1, keepdim=True)


def alone(same: Tensor) -> Tensor:
    """Return the diagonal ``(N, N)``, where a sample's own text alone is right."""
    return torch.eye(len(same), dtype=torch.bool, device=same.device)
