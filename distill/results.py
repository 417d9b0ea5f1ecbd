"""The result of a comparison: teacher, student alone, student distilled, over the seeds; its table and its summary."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distill.records import Record, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SUMMARY = "summary.json"
RULES = {"val_chosen": "epoch chosen on validation", "last": "last epoch", "best_on_test": "best epoch on test"}
PUBLISHED_RULES = {**RULES, "unknown": "epoch not stated"}
"""Rules of published numbers; one whose source does not say it is compared by the rule of the table."""


class Spread(NamedTuple):
    """Mean, sample standard deviation (0 for one value) and number of values."""

    mean: float
    std: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}" if self.n > 1 else f"{self.mean:.2f}"


def spread(values: Sequence[float]) -> Spread:
    """Return mean, sample standard deviation and count of at least one value."""
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values))


def rule_of(records: Sequence[Record]) -> str:
    """Return the selection rule for these records: chosen on validation, or last where no split was held out."""
    return "val_chosen" if all(r["accuracy"]["val_chosen"] is not None for r in records) else "last"


@dataclass
class Result:
    """What one call of :func:`distill.run` found.

    Attributes:
        teachers: record by teacher name, of teachers that were trained here.
        arms: records by arm (``alone``, ``distilled``), one a seed.
        folders: run folders by arm, in the same order.
        overrides: what the user typed.
    """

    teachers: dict[str, Record]
    arms: dict[str, list[Record]]
    folders: dict[str, list[str]]
    overrides: list[str]

    @property
    def rule(self) -> str:
        """Selection rule of every accuracy below."""
        return rule_of([r for records in [*self.arms.values(), list(self.teachers.values())] for r in records])

    def accuracy(self, arm: str) -> Spread:
        """Return test accuracy of an arm in percent over the seeds."""
        return spread([r["accuracy"][self.rule] for r in self.arms[arm]])

    def gain(self) -> Spread | None:
        """Return what teaching added, in points of accuracy, paired by seed; None without both arms."""
        if set(self.arms) != {"alone", "distilled"}:
            return None
        pairs = zip(self.arms["distilled"], self.arms["alone"], strict=True)
        return spread([d["accuracy"][self.rule] - a["accuracy"][self.rule] for d, a in pairs])

    def gap_closed(self) -> float | None:
        """Return the share of the gap from student alone to best teacher that was closed; None without a gap."""
        gain = self.gain()
        if gain is None or not self.teachers:
            return None
        gap = max(r["accuracy"][self.rule] for r in self.teachers.values()) - self.accuracy("alone").mean
        return gain.mean / gap if gap > 0 else None

    @property
    def objective(self) -> float:
        """Number that a sweep maximises: mean validation accuracy, or last test accuracy where nothing was held out."""
        records = self.arms.get("distilled") or self.arms["alone"]
        if self.rule == "val_chosen":
            return statistics.fmean(r["accuracy"]["val"] for r in records)
        return statistics.fmean(r["accuracy"]["last"] for r in records)

    def summary(self) -> dict[str, Any]:
        """Return the comparison as plain values, for ``summary.json``."""
        gain = self.gain()
        return {
            "status": "complete",
            "overrides": self.overrides,
            "rule": self.rule,
            "objective": self.objective,
            "accuracy": {arm: self.accuracy(arm)._asdict() for arm in self.arms},
            "teachers": {name: r["accuracy"][self.rule] for name, r in self.teachers.items()},
            "gain": gain._asdict() if gain else None,
            "gap_closed": self.gap_closed(),
            "seeds": [r["config"]["seed"] for r in next(iter(self.arms.values()))],
            "val_accuracy": self.objective if self.rule == "val_chosen" else None,
            "params": next(iter(self.arms.values()))[0]["params"],
            "flops": next(iter(self.arms.values()))[0]["flops"],
            "seconds": {arm: sum(r["seconds"] for r in records) for arm, records in self.arms.items()},
            "folders": self.folders,
        }

    def save(self, folder: Path) -> None:
        """Write ``summary.json`` into a folder."""
        write_json(folder / SUMMARY, self.summary())

    def table(self) -> Table:
        """Return the comparison as a table for the terminal."""
        from rich.table import Table

        table = Table(title=None, show_edge=False, header_style="bold")
        table.add_column("")
        for column in ("test accuracy %", "seeds", "params", "FLOPs", "train s"):
            table.add_column(column, justify="right")
        for name, record in self.teachers.items():
            _row(table, f"teacher {name}", [record], self.rule)
        titles = {"alone": "student alone", "distilled": "student distilled"}
        for arm, records in self.arms.items():
            _row(table, titles[arm], records, self.rule)
        return table

    def print(self, console: Console) -> None:
        """Print the table, what teaching was worth, and where everything is."""
        console.print()
        console.print(self.table())
        gain, gap = self.gain(), self.gap_closed()
        if gain is not None:
            share = f"; {100 * gap:.0f} % of the gap to the teacher closed" if gap is not None else ""
            console.print(
                f"\ndistillation: {gain.mean:+.2f} points"
                + (f" (± {gain.std:.2f}, paired by seed)" if gain.n > 1 else "")
                + share,
                soft_wrap=True,
            )
        console.print(
            f"accuracy of the {RULES[self.rule]}; last, best-on-test and val-chosen are all in each result.json",
            soft_wrap=True,
        )
        test = next(iter(self.arms.values()))[0]["test"]
        if "prior" in test:
            usual = f"the usual answer to each question {test['prior']:.2f} %"
            console.print(
                f"without the image: the most frequent answer {test['majority']:.2f} %, {usual}", soft_wrap=True
            )


def _row(table: Table, name: str, records: Sequence[Record], rule: str) -> None:
    seconds = spread([r["seconds"] for r in records]).mean
    table.add_row(
        name,
        str(spread([r["accuracy"][rule] for r in records])),
        str(len(records)),
        quantity(records[0]["params"]),
        quantity(records[0]["flops"]),
        f"{seconds:.1f}",
    )


def quantity(value: float) -> str:
    """Return a count with a thousands prefix, such as 1.2 M."""
    units = ["", " k", " M", " G", " T"]
    while abs(value) >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g}{units[0]}"
