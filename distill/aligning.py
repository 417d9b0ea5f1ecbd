"""Aligning: how a plain student becomes one with a map and a vector in the space of an image-text teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from distill.config import ConfigError
from distill.networks.aligned import Aligned
from distill.objective import Objective
from distill.outputs import Anchors
from distill.places import CONF
from distill.taps import published

OWN = ("dense", "image_embedding")
"""Taps that a student has by being aligned."""


def advice(student: Mapping[str, Any], anchors: Mapping[str, Anchors]) -> str:
    """Return the overrides that align a student: ``student=aligned student@student.network=resnet20 ...``.

    Args:
        student: its node of the config; of a network that is not shipped the name is left to the reader.
        anchors: of each teacher that embeds text, by its name; their width is the student's.
    """
    target = f"_target_: {student['_target_']}\n"
    found = [path.stem for path in sorted((CONF / "student").glob("*.yaml")) if target in path.read_text("utf-8")]
    name = found[0] if len(found) == 1 else "NAME"
    widths = {one.text.shape[1] for one in anchors.values()}
    width = f" student.width={widths.pop()}" if len(widths) == 1 else ""
    return f"student=aligned student@student.network={name}{width}"


def require_taps(
    network: nn.Module, objective: Objective, student: Mapping[str, Any], anchors: Mapping[str, Anchors]
) -> None:
    """Refuse a student that is not aligned where a term reads what only an aligned one has.

    Args:
        network: of the student.
        objective: whose terms read it.
        student: its node of the config.
        anchors: of each teacher that embeds text, by its name.

    Raises:
        ConfigError: names the term, the tap and the overrides that align the student.
    """
    if isinstance(network, Aligned) or not anchors:  # without an image-text teacher there is nothing to align with
        return
    there = {*published(network), *dict(network.named_modules())}
    for name, taps in objective.student_taps_by_term.items():
        missing = [tap for tap in taps if tap in OWN and tap not in there]
        if missing:
            raise ConfigError(
                [
                    f"loss.{name}: reads the student's {missing[0]}, which {type(network).__name__} does not have; "
                    f"take {advice(student, anchors)}"
                ]
            )
