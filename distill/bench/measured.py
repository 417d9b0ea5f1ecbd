"""What a benchmark measured: rounds of several sides that alternate, and the ratios between them."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Measured:
    """Rounds of alternating measurements.

    Attributes:
        title: what was measured.
        unit: of a single measurement, such as ``ms a step``.
        rounds: measurements by side, a number a round.
        ratios: sides to divide, ``(name, numerator, denominator, target)``; a target of None is not judged.
        notes: lines that are printed and kept, such as equal losses.
        memory: MiB by side, where that was measured too.
    """

    title: str
    unit: str
    rounds: dict[str, list[float]]
    ratios: list[tuple[str, str, str, float | None]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    memory: dict[str, float] = field(default_factory=dict)

    def quotients(self, above: str, below: str) -> list[float]:
        """Return the ratio of two sides, one a round."""
        return [a / b for a, b in zip(self.rounds[above], self.rounds[below], strict=True)]

    def show(self) -> None:
        """Print median and spread of every side and every ratio."""
        count = len(next(iter(self.rounds.values())))
        print(f"{self.title}; {count} rounds, alternating; median (from lowest to highest)")
        for side, values in self.rounds.items():
            print(f"  {side:<34} {_spread(values)} {self.unit}")
        for name, above, below, target in self.ratios:
            aim = "" if target is None else f"   target {target:g}"
            print(f"  {name:<34} {_spread(self.quotients(above, below))}{aim}")
        for note in self.notes:
            print(f"  {note}")

    def write(self, path: str, command: Sequence[str]) -> None:
        """Write everything to a JSON file, with the command and what it ran on."""
        import torch

        from distill.records import provenance, write_json

        ratios = {
            name: {"median": statistics.median(q), "low": min(q), "high": max(q), "target": target}
            for name, above, below, target in self.ratios
            for q in [self.quotients(above, below)]
        }
        write_json(
            Path(path),
            {
                "title": self.title, "command": " ".join(command), "unit": self.unit, "rounds": self.rounds,
                "ratios": ratios, "notes": self.notes, "threads": torch.get_num_threads(),
                "platform": platform.platform(), **({"memory_mib": self.memory} if self.memory else {}), **provenance(),
            },
        )  # fmt: skip
        print(f"record: {path}", file=sys.stderr)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):9.3f}  ({min(values):.3f} to {max(values):.3f})"


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every side in turn, ``rounds`` times after one that only warms up; return the measurements by side."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, run in sides.items():
            found[name].append(run())
    return {name: values[1:] for name, values in found.items()}


def report(folder: str) -> str:
    """Return a table, in Markdown, of every ratio in the records of a folder, and of the sides.

    Records with the memory of every loss are left out: the page of the methods is their table.
    """
    lines = ["| record | what | median | from – to | aim | threads |", "| :-- | :-- | --: | --: | --: | --: |"]
    for path in sorted(Path(folder).glob("*.json")):
        record = json.loads(path.read_text())
        if "memory_mib" in record:
            continue
        judged = [(name, r["median"], r["low"], r["high"], r["target"]) for name, r in record["ratios"].items()]
        sides = [
            (f"{name}, {record['unit']}", statistics.median(v), min(v), max(v), None)
            for name, v in record["rounds"].items()
        ]
        for name, middle, low, high, target in [*judged, *sides]:
            aim = "" if target is None else f"{target:g}"
            threads = record["threads"]
            lines.append(f"| {path.stem} | {name} | {middle:.3f} | {low:.3f} – {high:.3f} | {aim} | {threads} |")
    return "\n".join(lines)
