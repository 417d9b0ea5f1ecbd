"""Paired: what the losses share that compare features of the student with features of the teacher, tap by tap."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import torch.nn.functional as F
from torch import Tensor, nn

from distill.connectors import connect
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Outputs, Spec, Specs


class Pair(NamedTuple):
    """One tap of the student and the tap of the teacher that it is compared with.

    Attributes:
        mine: name of the student's tap.
        other: name of the teacher's tap.
        student: shape of the student's feature, without the batch.
        teacher: shape of the teacher's feature, likewise.
    """

    mine: str
    other: str
    student: tuple[int, ...]
    teacher: tuple[int, ...]

    def refuse(self, reason: str) -> NoReturn:
        """Raise a ValueError with the names and shapes of both taps and the reason."""
        raise ValueError(
            f"student tap {self.mine!r} of shape {self.student} and teacher tap {self.other!r} of shape {self.teacher}"
            f" cannot be compared: {reason}"
        )

    def require_maps(self) -> None:
        """Refuse features that are not maps ``(C, H, W)``.

        Raises:
            ValueError: names both taps and their shapes.
        """
        if len(self.student) != 3 or len(self.teacher) != 3:
            self.refuse("this loss reads maps (channels, height, width); choose the taps of two stages")


def find_pair(student: Specs, teacher: Specs, mine: str, other: str) -> Pair:
    """Return two taps with their shapes.

    Raises:
        ValueError: when one of them is missing, or is no map ``(C, H, W)``, tokens ``(L, D)`` or vector ``(D,)``.
    """
    shapes = find_spec(student, mine, "student").shape, find_spec(teacher, other, "teacher").shape
    pair = Pair(mine, other, *shapes)
    if not all(1 <= len(shape) <= 3 for shape in shapes):
        pair.refuse("a feature is a map (channels, height, width), tokens (number, width) or a vector")
    return pair


class Paired(Loss):
    """Base of losses over pairs of taps; their values are added.

    Args:
        student_taps: names of the student's features, shallow to deep.
        teacher_taps: names of the teacher's features in the same order; with several teachers ``teacher/tap``.

    Raises:
        ValueError: when the lists are empty or of different lengths.
    """

    def __init__(self, student_taps: Sequence[str], teacher_taps: Sequence[str]) -> None:
        super().__init__()
        if not student_taps or len(student_taps) != len(teacher_taps):
            raise ValueError(
                f"student_taps={list(student_taps)} and teacher_taps={list(teacher_taps)} must have the same number of "
                "names, at least one: the first is compared with the first, and so forth"
            )
        self.mine = tuple(student_taps)
        self.other = tuple(teacher_taps)

    def student_taps(self) -> tuple[str, ...]:
        return self.mine

    def teacher_taps(self) -> tuple[str, ...]:
        return self.other

    def pairs(self, student: Specs, teacher: Specs) -> list[Pair]:
        """Return the pairs with their shapes.

        Raises:
            ValueError: when a tap is missing or no feature.
        """
        return [find_pair(student, teacher, *names) for names in zip(self.mine, self.other, strict=True)]

    def features(self, student: Outputs, teacher: Outputs | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Give the features of each pair in float32, the teacher's detached."""
        told = require_teacher(teacher).features
        for mine, other in zip(self.mine, self.other, strict=True):
            yield student.features[mine].float(), told[other].detach().float()


def same_size(a: Tensor, b: Tensor, largest: bool = False) -> tuple[Tensor, Tensor]:
    """Return maps ``(N, C, H, W)``, whose channels may differ, pooled to the smaller height and the smaller width.

    Each value is the mean of those it replaces, or the largest of them.
    """
    pool = F.adaptive_max_pool2d if largest else F.adaptive_avg_pool2d
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    a, b = (x if tuple(x.shape[2:]) == size else pool(x, size) for x in (a, b))
    return a, b


def pointwise(pair: Pair) -> nn.Module:
    """Return a 1x1 convolution with batch norm from the student's channels to the teacher's, for maps of one size.

    Raises:
        ValueError: when the features are not maps.
    """
    pair.require_maps()
    # of one position, for same_size() sees to height and width
    student, teacher = (Spec((shape[0], 1, 1)) for shape in (pair.student, pair.teacher))
    return connect(student, teacher, "projector", pair.mine, pair.other)
