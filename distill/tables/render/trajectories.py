"""Learning curves and schedules of the trainings that count, mean and deviation over their seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from distill.plots import Curve, curve
from distill.records import Record
from distill.results import Spread, spread
from distill.tables.results import Entry, Epoch
from distill.tables.spec import Table
from distill.tables.statistics import Score, Scores

ACCURACY = "test/accuracy"
SCHEDULE = "schedule/"


class Trajectories:
    """Quantities by epoch, of every training that curves.csv holds."""

    def __init__(self, epochs: Iterable[Epoch]) -> None:
        self.found: dict[tuple[str, str, int, str], list[Epoch]] = {}
        for epoch in epochs:
            self.found.setdefault(_key(epoch), []).append(epoch)

    def keys(self, score: Score) -> list[str]:
        """Return the names of all quantities of a cell, sorted."""
        return sorted({name for entry in score.entries for e in self.found.get(_key(entry), ()) for name in e.values})

    def of(self, score: Score, name: str) -> Curve | None:
        """Return a quantity by epoch over the seeds of a cell that have it, or None; what is not finite is left out."""
        records = [self._record(entry, name) for entry in score.entries]
        found = curve(known, name) if (known := [r for r in records if r["history"]]) else None
        return found if found and found.epochs else None

    def last(self, score: Score, name: str) -> Spread | None:
        """Return a quantity after the last epoch over the seeds of a cell that have it, or None."""
        ends = [max(found, key=lambda e: e.epoch) for e in score.entries if (found := self.found.get(_key(e)))]
        values = [end.values[name] for end in ends if math.isfinite(end.values.get(name, math.nan))]
        return spread(values) if values else None

    def _record(self, entry: Entry, name: str) -> Record:
        epochs = self.found.get(_key(entry), ())
        known = [(e.epoch, e.values[name]) for e in epochs if math.isfinite(e.values.get(name, math.nan))]
        return {"history": [{"epoch": epoch, name: value} for epoch, value in known]}


def measured(table: Table, scores: Scores, curves: Trajectories) -> Scores:
    """Return scores with what the table shows beside accuracy."""
    cells = {}
    for at, score in scores.cells.items():
        found = {name: curves.last(score, name) for name in table.metrics}
        cells[at] = replace(score, metrics={name: value for name, value in found.items() if value is not None})
    return Scores(cells, scores.warnings)


def _key(of: Entry | Epoch) -> tuple[str, str, int, str]:
    return "" if of.arm == "teacher" else of.row, of.column, of.seed, of.fingerprint
