"""Connectors: small trained modules that give a student's feature the shape of a teacher's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from distill.connectors.abf import abf
from distill.connectors.attention import cross_attention
from distill.connectors.layers import identity, linear, mlp, projector, regressor
from distill.outputs import Spec

_MAKERS: dict[str, Callable[[Spec, Spec], nn.Module | None]] = {
    "regressor": regressor,
    "projector": projector,
    "identity": identity,
    "linear": linear,
    "mlp": mlp,
    "abf": abf,
    "cross_attention": cross_attention,
}
KINDS = tuple(_MAKERS)


def fitting(student: Spec, teacher: Spec) -> list[str]:
    """Return the kinds that can connect two shapes, in the order of :data:`KINDS`."""
    with torch.device("meta"):  # neither memory nor random numbers are spent on looking
        return [kind for kind, make in _MAKERS.items() if make(student, teacher) is not None]


def connect(student: Spec, teacher: Spec, kind: str, student_tap: str, teacher_tap: str) -> nn.Module:
    """Return a module from the student's shape to the teacher's.

    Args:
        student: shape of the student's feature.
        teacher: shape of the teacher's feature.
        kind: one of :data:`KINDS`. ``"regressor"``: convolution, batch norm, ReLU of FitNet. ``"projector"``: 1x1
            convolution with batch norm, or a linear layer. ``"identity"``: equal shapes. ``"linear"`` and ``"mlp"``:
            one or two layers over the channels, between maps, tokens and vectors of any size. ``"abf"``: ReviewKD's
            fusion, to maps. ``"cross_attention"``: learned queries, between any forms.
        student_tap: name of the student's feature, for the message of an error.
        teacher_tap: name of the teacher's feature, likewise.

    Raises:
        ValueError: when this kind cannot connect the shapes, or there is no such kind; says which kinds could.
    """
    if kind not in _MAKERS:
        raise ValueError(f"connector must be one of {', '.join(KINDS)}, got {kind!r}")
    connector = _MAKERS[kind](student, teacher)
    if connector is None:
        kinds = fitting(student, teacher)
        raise ValueError(
            f"connector {kind} cannot join student tap {student_tap!r} of shape {student.shape} to teacher tap "
            f"{teacher_tap!r} of shape {teacher.shape}; choose "
            + (f"connector {' or '.join(kinds)}, or other taps" if kinds else "other taps, which no connector joins")
        )
    return connector
