"""Importance of each override that a sweep varies: the share of the variance between settings that it explains."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

METHOD = (
    "importance: one-way main effect, the share of the variance between settings that the groups of one override's "
    "values explain; chance is what it would be on average if the override did nothing"
)
ABSENT = "(not given)"
FEWEST = 3
"""Settings below which nothing can be said."""
SPAN = 3
"""Settings that a group of neighbouring numbers holds, or more."""


class Importance(NamedTuple):
    """What one override explains; ``share`` and ``chance`` are fractions of the variance, ``None`` where too few."""

    key: str
    share: float | None
    chance: float | None
    groups: int
    settings: int


def importances(settings: Sequence[Mapping[str, str]], values: Sequence[float]) -> list[Importance]:
    """Return the importance of each key that is not the same in all settings, the greatest first.

    Where every number is rare (more than half of the settings differ in it), as those of a search are, neighbours in
    order of size make a group; equal numbers are never parted. A share is none where no group has two settings, for
    then the groups explain everything by themselves; or where all values are equal.

    Args:
        settings: value by key of each.
        values: what each setting came to.
    """
    keys = sorted({key for setting in settings for key in setting})
    found = []
    for key in keys:
        own = [setting.get(key, ABSENT) for setting in settings]
        if len(set(own)) > 1:
            found.append(_of(key, groups(own), values))
    return sorted(found, key=lambda x: -1.0 if x.share is None else x.share, reverse=True)


def groups(own: Sequence[str]) -> list[Hashable]:
    """Return the group of each value: the value itself, or the place of its bin where numbers are mostly different."""
    numbers = [_number(value) for value in own]
    if any(number is None for number in numbers) or len(set(own)) * 2 <= len(own):
        return list(own)
    ranked = sorted(n for n in numbers if n is not None)
    bins = max(2, min(4, len(own) // SPAN))
    return [ranked.index(number) * bins // len(own) for number in numbers if number is not None]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _of(key: str, own: Sequence[Hashable], values: Sequence[float]) -> Importance:
    n, members = len(values), {group: [v for g, v in zip(own, values, strict=True) if g == group] for group in own}
    mean = statistics.fmean(values)
    total = sum((value - mean) ** 2 for value in values)
    if n < FEWEST or len(members) in (1, n) or total == 0:
        return Importance(key, None, None, len(members), n)
    between = sum(len(found) * (statistics.fmean(found) - mean) ** 2 for found in members.values())
    return Importance(key, between / total, (len(members) - 1) / (n - 1), len(members), n)


def report(found: Sequence[Importance], pruned: int = 0) -> list[str]:
    """Return the importances as lines of text, with the method and what limits it; nothing where nothing varies.

    Args:
        found: as :func:`importances` returns them.
        pruned: settings without a result, because a search gave them up.
    """
    if not found:
        return []
    width = max(len(one.key) for one in found)
    lines = [METHOD]
    for one in found:
        if one.share is None or one.chance is None:
            lines.append(f"  {one.key:<{width}}  cannot be told from {one.settings} settings in {one.groups} groups")
        else:
            weak = "" if one.share > one.chance else "; not above chance"
            share = f"{100 * one.share:3.0f} % (chance {100 * one.chance:.0f} %)"
            lines.append(f"  {one.key:<{width}}  {share} in {one.groups} groups{weak}")
    if found[0].settings < 4 * max(one.groups for one in found):
        lines.append(f"  few settings ({found[0].settings}) for so many groups: take the order as a hint")
    if pruned:
        lines.append(f"  {pruned} pruned setting(s) are not in it, so what made them bad counts too little")
    return lines
