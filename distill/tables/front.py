"""The Pareto front of a search with several objectives: the settings that no other beats in all of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from distill.records import Record, read_json
from distill.results import quantity

SEARCH = "search.json"
"""What a search says of itself in its folder: study, storage, objectives, directions, space."""


def searches(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Return what the searches under folders say of themselves, those that can be read."""
    files = {file.resolve(): None for path in paths for file in path.rglob(SEARCH)}
    return [found for found in map(read_json, sorted(files)) if found is not None and "objectives" in found]


def front(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[int]:
    """Return the places of the points that no other dominates: none is as good in everything and better in something.

    Args:
        points: one value for each direction.
        directions: ``maximize`` or ``minimize``.
    """
    signed = [[v if d == "maximize" else -v for v, d in zip(p, directions, strict=True)] for p in points]

    def beaten(i: int) -> bool:
        return any(
            all(b >= a for a, b in zip(signed[i], other, strict=True)) and other != signed[i] for other in signed
        )

    return [i for i in range(len(points)) if not beaten(i)]


def objective(records: Sequence[Record], name: str) -> float | None:
    """Return an objective of a setting from the records of its seeds; None where it has none."""
    found = [record["accuracy"]["val"] if name == "val_accuracy" else record.get(name) for record in records]
    known = [float(value) for value in found if value is not None]
    return statistics.fmean(known) if known and len(known) == len(found) else None


def report(search: dict[str, Any], names: Sequence[str], records: Sequence[Sequence[Record]]) -> list[str]:
    """Return the front of a search as lines of text, the costliest first; nothing where it had one objective.

    Args:
        search: as in its ``search.json``.
        names: what to call each setting.
        records: of the seeds of each setting.
    """
    objectives, directions = search["objectives"], search["directions"]
    if len(objectives) < 2:
        return []
    all_points = [[objective(found, name) for name in objectives] for found in records]
    kept = [i for i, point in enumerate(all_points) if None not in point]
    points = [[float(v) for v in all_points[i] if v is not None] for i in kept]
    places = sorted(front(points, directions), key=lambda i: points[i][-1], reverse=True)
    wanted = ", ".join(f"{n} {d.removesuffix('e')}ed" for n, d in zip(objectives, directions, strict=True))
    lines = [f"Pareto front ({len(places)} of {len(points)} settings; {wanted}):"]
    for i in places:
        numbers = ", ".join(f"{n} {_shown(n, v)}" for n, v in zip(objectives, points[i], strict=True))
        lines.append(f"  {numbers}: {names[kept[i]]}")
    return lines


def _shown(name: str, value: float) -> str:
    return quantity(value) if name in ("params", "flops") else f"{value:.2f}"
