"""What taps of two networks can be matched with each other, and proposals of pairs with the overrides to paste."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from distill.connectors import fitting
from distill.connectors.forms import form_of, grid_of, prefix_of
from distill.outputs import Spec
from distill.taps import published, spec_of

STAGE = re.compile(r"stage(\d+)")
FUSED = re.compile(r"(.*\.)?attn\.qkv")
"""The fused query-key-value layers of timm's transformers."""
MOST_HEADS = 12


class Tap(NamedTuple):
    """A feature that a network gives.

    Attributes:
        name: friendly name, or module path.
        path: module path.
        spec: its shape.
        depth: stage over the number of stages, in (0, 1]; None for what is no stage.
    """

    name: str
    path: str
    spec: Spec
    depth: float | None = None


class Pair(NamedTuple):
    """A proposal to match two taps.

    Attributes:
        student: tap of the student.
        teacher: tap of the teacher.
        by: kind of connector, or the relation that is matched.
        override: what to type after ``distill train``.
    """

    student: Tap
    teacher: Tap
    by: str
    override: str


def taps_of(network: nn.Module, shapes: Mapping[str, tuple[str, tuple]]) -> list[Tap]:
    """Return the taps of a network from what :func:`distill.taps.tap_shapes` says of it."""
    stages = [int(found[1]) for name in published(network) if (found := STAGE.fullmatch(name))]
    taps = []
    for name, (path, shape) in shapes.items():
        found = STAGE.fullmatch(name)
        depth = int(found[1]) / max(stages) if found else None
        taps.append(Tap(name, path, spec_of(network, shape), depth))
    return taps


def kind(spec: Spec) -> str:
    """Return the form of a tap in words: ``map``, ``vector``, ``tokens 1+14x14`` (class token, grid) or ``other``."""
    grid = grid_of(spec)
    if form_of(spec) != "tokens" or grid is None:
        return form_of(spec)
    before = f"{prefix_of(spec)}+" if prefix_of(spec) else ""
    return f"tokens {before}{grid[0]}x{grid[1]}"


def pairs(student: Sequence[Tap], teacher: Sequence[Tap], owner: str = "") -> list[Pair]:
    """Return a proposal for each stage of the student, for the last vectors, and for the last attention layers.

    Stages are matched by equal size of their maps, where there is one of the teacher, and by relative depth.

    Args:
        student: taps of the student.
        teacher: taps of the teacher.
        owner: name of the teacher where there are several, which its taps are called by.
    """
    found = [_stage(tap, [t for t in teacher if t.depth is not None]) for tap in student if tap.depth is not None]
    ends = [next((t for t in taps if t.name == "pooled"), None) for taps in (student, teacher)]
    chosen = [*found, (ends[0], ends[1])]
    joined = [(a, b, connector(a.spec, b.spec)) for a, b in chosen if a is not None and b is not None]
    proposals = [
        Pair(a, b, by, _override("fitnet", a, b, owner, f"connector={by}")) for a, b, by in joined if by is not None
    ]
    return [*proposals, *_relations(student, teacher, owner)]


def connector(student: Spec, teacher: Spec) -> str | None:
    """Return the kind of connector to start with; None where none fits."""
    kinds = fitting(student, teacher)
    if "regressor" in kinds and form_of(student) == "map":
        sizes = list(zip(student.shape[1:], teacher.shape[1:], strict=True))
        if any(all(a * down == b * up for a, b in sizes) for up, down in ((1, 1), (2, 1), (1, 2))):
            return "regressor"  # other sizes take kernels as large as the difference
    return next((name for name in ("linear", "cross_attention") if name in kinds), None)


def _stage(tap: Tap, stages: Sequence[Tap]) -> tuple[Tap, Tap | None]:
    """Return the stage of the teacher that is nearest to one of the student."""
    alike = [
        t for t in stages if form_of(t.spec) == form_of(tap.spec) == "map" and grid_of(t.spec) == grid_of(tap.spec)
    ]
    return tap, min(alike or stages, key=lambda t: abs((t.depth or 0) - (tap.depth or 0)), default=None)


def _relations(student: Sequence[Tap], teacher: Sequence[Tap], owner: str) -> list[Pair]:
    """Propose the last fused attention layers of two transformers that have as many tokens."""
    fused = [[t for t in taps if FUSED.fullmatch(t.path) and len(t.spec.shape) == 2] for taps in (student, teacher)]
    if not all(fused):
        return []
    mine, other = fused[0][-1], fused[1][-1]
    if mine.spec.shape[0] != other.spec.shape[0]:
        return []
    widths = mine.spec.shape[1] // 3, other.spec.shape[1] // 3
    heads = max(n for n in range(1, MOST_HEADS + 1) if not any(width % n for width in widths))
    return [Pair(mine, other, "relations", _override("minilm", mine, other, owner, f"heads={heads}"))]


def _override(loss: str, student: Tap, teacher: Tap, owner: str, more: str) -> str:
    there = f"{owner}/{teacher.name}" if owner else teacher.name
    words = (f"student_tap={student.name}", f"teacher_tap={there}", more)
    return " ".join([f"'loss=[ce,{loss}]'", *(f"loss.{loss}.{word}" for word in words)])
