"""A declared table: rows x columns x seeds of overrides, and the published numbers, read from table.yaml."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

TABLE = "table.yaml"
ARMS = ("distilled", "alone", "teacher")
ALONE = ("teacher=[]", "loss=[ce]")
"""What makes a cell that of the student without a teacher."""
LABELS = "loss.ce."
"""What a row of it may still say: how it learns from the labels."""
UNSEEN = "unseen_classes="
"""What it cannot be asked about, having nobody's names."""


@dataclass(frozen=True)
class Source:
    """Where published numbers come from.

    Attributes:
        title: what a reader is told, such as ``RepDistiller README``.
        rule: selection rule of its numbers, one of :data:`distill.results.PUBLISHED_RULES`.
        url: where it can be read; empty where it cannot.
        note: what makes its numbers differ from ours: another recipe, other teachers.
    """

    title: str
    rule: str
    url: str = ""
    note: str = ""


class Matched(NamedTuple):
    """What makes a row the control of another: its key ``of``, and the constant temperature in the place of its own.

    T^2 turns a moving temperature T(t) into a loss-weight schedule; the control has that weight, T(t)^2, at constant T.
    """

    of: str
    temperature: float


@dataclass(frozen=True)
class Line:
    """A row or a column.

    Attributes:
        key: its name in the file, in folders and in results.csv.
        title: what a reader sees.
        overrides: what it adds to the command line.
        arm: rows only: ``distilled`` trains the student with the teacher; ``alone`` without; ``teacher`` trains nothing
            of its own and shows the teachers that the other rows of the column trained.
        note: shown under the table.
        matched: rows only: the row that this one is the control of; then its overrides are laid on that row's.
    """

    key: str
    title: str
    overrides: tuple[str, ...] = ()
    arm: str = "distilled"
    note: str = ""
    matched: Matched | None = None


class Published(NamedTuple):
    """One published number: percent, and the key of its source."""

    value: float
    source: str


class Cell(NamedTuple):
    """One training: row, column and seed."""

    row: str
    column: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row} / {self.column} / seed {self.seed}"


@dataclass(frozen=True)
class Table:
    """A declared table.

    Attributes:
        name: of its folder.
        folder: where table.yaml, results.csv and everything rendered from them stand.
        title: of the table.
        paper: authors, title, year, number of the table; empty for one of our own.
        note: what a reader has to know: hardware, hours, what is not comparable.
        rule: which epoch counts, one of :data:`distill.results.RULES`.
        tolerance: points of accuracy beyond which ours departs from the published number.
        baseline: key of the row that gains and paired differences refer to.
        seeds: of every cell.
        overrides: of every cell, before those of column, row and cell.
        smoke: overrides laid on top of all when the table is only tried out, so that every cell takes seconds.
        rows: in order.
        columns: in order.
        cells: further overrides by ``(row, column)``.
        left_out: why a ``(row, column)`` is no cell of the table.
        published: published numbers by ``(row, column)``; the first is the one that ours is compared with.
        sources: by key.
        metrics: columns of metrics.csv that are shown beside accuracy, as they were after the last epoch.
    """

    name: str
    folder: Path
    title: str
    paper: str
    note: str
    rule: str
    tolerance: float
    baseline: str
    seeds: tuple[int, ...]
    overrides: tuple[str, ...]
    smoke: tuple[str, ...]
    rows: tuple[Line, ...]
    columns: tuple[Line, ...]
    cells: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[tuple[str, str], str] = field(default_factory=dict)
    published: Mapping[tuple[str, str], tuple[Published, ...]] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Cell]:
        """Give every cell that trains a student, seeds innermost."""
        for row in self.rows:
            for column in self.columns:
                if row.arm != "teacher" and (row.key, column.key) not in self.left_out:
                    yield from (Cell(row.key, column.key, seed) for seed in self.seeds)

    def row(self, key: str) -> Line:
        """Return a row by its key."""
        return next(line for line in self.rows if line.key == key)

    def column(self, key: str) -> Line:
        """Return a column by its key."""
        return next(line for line in self.columns if line.key == key)

    def overrides_of(self, cell: Cell, smoke: bool = False) -> list[str]:
        """Return the whole command line of a cell but for ``distill train``.

        Raises:
            ConfigError: when a matched row's other row has no moving temperature, or does not compose.
        """
        row, column = self.row(cell.row), self.column(cell.column)
        whole = [*self.overrides, *column.overrides]
        if row.matched is not None:
            from distill.tables.matched import control

            other = self.row(row.matched.of)
            whole += [*other.overrides, *self.cells.get((other.key, cell.column), ())]
            whole += control(tuple(whole), row.matched)
        whole += [*row.overrides, *self.cells.get((cell.row, cell.column), ())]
        labels = [o for o in whole if o.startswith(LABELS)] if row.arm == "alone" else []
        arm = ALONE if row.arm == "alone" else ("alone=false",)
        if row.arm == "alone" and any(o.startswith(UNSEEN) for o in whole):
            arm = (*arm, f"{UNSEEN}null")
        whole = replaced(whole, [*arm, *labels, f"seed={cell.seed}", "seeds=1"])
        return self.tried(whole, cell) if smoke else whole

    def tried(self, overrides: Sequence[str], cell: Cell) -> list[str]:
        """Return the overrides of a cell with those of a trial on top; nothing of a teacher where there is none."""
        alone = self.row(cell.row).arm == "alone"
        return replaced(overrides, [o for o in self.smoke if not (alone and o.lstrip("+~").startswith("teacher"))])


def replaced(overrides: Sequence[str], later: Sequence[str]) -> list[str]:
    """Return overrides with later ones after them; where those choose another option, nothing is set below the old."""
    chosen = [text.partition("=")[0] for text in later]
    return [o for o in overrides if not o.lstrip("+~").startswith(tuple(f"{key}." for key in chosen))] + list(later)


def load(folder: Path) -> Table:
    """Return the table that a folder's table.yaml declares.

    Raises:
        ConfigError: every mistake in the file, one sentence each.
    """
    from distill.tables.loading import read

    return read(folder)
