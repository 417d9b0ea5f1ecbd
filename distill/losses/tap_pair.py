"""TapPair: what losses over one student feature and one teacher feature have in common."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor, nn

from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Outputs, Spec, Specs

TINY = 1e-12  # a shorter vector has no direction
HEADS = ("linear", "mlp", "identity")


class TapPair(Loss):
    """Base of losses that read one feature of each side.

    Args:
        student_tap: name of the student's feature.
        teacher_tap: name of the teacher's feature.
    """

    def __init__(self, student_tap: str, teacher_tap: str) -> None:
        super().__init__()
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        self.specs(student, teacher)

    def specs(self, student: Specs, teacher: Specs) -> tuple[Spec, Spec]:
        """Return the shapes of both features.

        Raises:
            ValueError: when one of them is not there.
        """
        return find_spec(student, self.student_tap, "student"), find_spec(teacher, self.teacher_tap, "teacher")

    def vectors(self, student: Specs, teacher: Specs) -> tuple[int, int]:
        """Return the lengths of two features that have to be vectors.

        Raises:
            ValueError: when one is not; names both taps and their shapes.
        """
        mine, other = self.specs(student, teacher)
        if len(mine.shape) != 1 or len(other.shape) != 1:
            raise ValueError(
                f"needs a vector an image, and student tap {self.student_tap!r} has shape {mine.shape}, teacher tap "
                f"{self.teacher_tap!r} {other.shape}; choose taps after pooling, such as pooled"
            )
        return mine.shape[0], other.shape[0]

    def features(self, student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
        """Return both features in float32, that of the teacher detached."""
        mine, other = student.features[self.student_tap], require_teacher(teacher).features[self.teacher_tap]
        return mine.float(), other.detach().float()

    def embedded(self, student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
        """Return both features as :meth:`features` does, for a layer on each side that is trained."""
        mine, other = self.features(student, teacher)
        # what a teacher gives under inference mode cannot be kept for the gradient of a weight
        return mine, other.clone() if other.is_inference() else other


def full_precision(tensor: Tensor) -> contextlib.AbstractContextManager[None]:
    """Return a context in which matrix products are not cast to a lower precision."""
    context: contextlib.AbstractContextManager[None] = torch.autocast(tensor.device.type, enabled=False)
    return context


def unit(x: Tensor, dim: int = 1) -> Tensor:
    """Return vectors along ``dim`` divided by their lengths; one without length stays zero and has no gradient.

    Clamping the length alone would give such a vector a gradient of 1e12.
    """
    length = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x * ((length > TINY) / length.clamp_min(TINY))


def head(kind: str, inputs: int, outputs: int) -> nn.Module:
    """Return what maps a student's vector to the length of a teacher's.

    Args:
        kind: ``"linear"``, ``"mlp"`` (one hidden layer of the student's length, ReLU) or ``"identity"``.
        inputs: length of the student's vector.
        outputs: length of the teacher's.

    Raises:
        ValueError: when there is no such kind, or identity is asked for and the lengths differ.
    """
    if kind == "linear":
        return nn.Linear(inputs, outputs)
    if kind == "mlp":
        return nn.Sequential(nn.Linear(inputs, inputs), nn.ReLU(), nn.Linear(inputs, outputs))
    if kind != "identity":
        raise ValueError(f"head must be one of {', '.join(HEADS)}, got {kind!r}")
    if inputs != outputs:
        raise ValueError(
            f"head=identity: the student's vector has length {inputs} and the teacher's {outputs}; take linear or mlp"
        )
    return nn.Identity()
