"""What the trainings of a table come to: mean ± std (n), paired differences with intervals, distance to the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from distill.results import RULES, Spread, spread
from distill.tables.results import Entry
from distill.tables.spec import Line, Published, Source, Table

CONFIDENCE = 0.95


class Paired(NamedTuple):
    """Mean difference over the seeds that two cells share, points; the interval is None for one seed."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def undecided(self) -> bool:
        """Whether there is an interval and it holds 0: these seeds do not tell the two apart."""
        return self.low is not None and self.high is not None and self.low <= 0 <= self.high


class Comparison(NamedTuple):
    """Ours beside the first published number of a cell.

    Attributes:
        published: the number, percent, and the key of its source.
        source: where it comes from.
        rule: that of the source, or of the table where the source does not state one.
        ours: our mean ± std by the rule, or None where our runs have no accuracy by it.
        delta: ours minus published, points, or None.
        departs: whether ``delta`` is beyond the tolerance of the table.
    """

    published: Published
    source: Source
    rule: str
    ours: Spread | None
    delta: float | None
    departs: bool


@dataclass(frozen=True)
class Score:
    """Everything rendering says of one row in one column.

    Attributes:
        row, column: where it stands.
        entries: the trainings that count, by seed.
        declared: number of seeds the table asks for; 0 for teachers, which take what the other rows trained.
        left_out: why the table has no such cell; empty where it has.
        accuracy: test accuracy in percent by the rule of the table; None where nothing was run.
        gain: difference to the baseline of the column, paired by seed; None without a common seed.
        published: published numbers, the first of which ``comparison`` is about.
        comparison: ours beside the published number; None where nothing was published.
        best: whether no student of the column has a higher mean.
        tied: whether the interval of the paired difference to the best holds 0.
        rank: place among the students of the column, from 1; None for teachers and cells not run.
        metrics: what the table asks for beside accuracy, by name, where it was measured.
    """

    row: Line
    column: Line
    entries: tuple[Entry, ...]
    declared: int
    left_out: str
    accuracy: Spread | None
    gain: Paired | None
    published: tuple[Published, ...]
    comparison: Comparison | None
    best: bool = False
    tied: bool = False
    rank: int | None = None
    metrics: Mapping[str, Spread] = field(default_factory=dict)

    def mean(self, value: Callable[[Entry], float | None]) -> Spread | None:
        """Return mean ± std of a quantity over the trainings that have it, or None."""
        found = [x for x in map(value, self.entries) if x is not None]
        return spread(found) if found else None

    @property
    def teacher(self) -> bool:
        """Whether this is a teacher's line, which is shown but not ranked."""
        return self.row.arm == "teacher"

    @property
    def short(self) -> bool:
        """Whether fewer seeds than declared were trained."""
        return 0 < len(self.entries) < self.declared


@dataclass
class Scores:
    """Scores by ``(row, column)`` in the order of the table, and what a reader should know."""

    cells: dict[tuple[str, str], Score] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def of_column(self, key: str) -> list[Score]:
        """Return the scores of one column, in the order of the rows."""
        return [score for score in self.cells.values() if score.column.key == key]

    def done(self) -> list[Score]:
        """Return the scores of cells with at least one training."""
        return [score for score in self.cells.values() if score.accuracy is not None]


def paired(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Paired | None:
    """Return ours minus theirs over the seeds both have, with its 95 % interval by Student's t; None without any."""
    differences = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
    if not differences:
        return None
    mean, std, n = spread(differences)
    if n == 1:
        return Paired(mean, None, None, n)
    half = _t(n - 1) * std / math.sqrt(n)
    return Paired(mean, mean - half, mean + half, n)


def _t(freedom: int) -> float:
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy.stats would take seconds to import

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def score(table: Table, entries: Iterable[Entry]) -> Scores:
    """Return what the trainings of a table come to, cell by cell, under the rule of the table."""
    scores = Scores()
    kept = _kept(table, entries, scores.warnings)
    for row in table.rows:
        for column in table.columns:
            key = row.key, column.key
            scores.cells[key] = _score(table, row, column, kept, scores.warnings)
    for column in table.columns:
        _rank(scores, column.key, table.rule)
    return scores


def by_seed(entries: Iterable[Entry], rule: str) -> dict[int, float]:
    """Return accuracy in percent by seed, of the trainings that have one by this rule."""
    found = {entry.seed: entry.accuracy(rule) for entry in entries}
    return {seed: value for seed, value in found.items() if value is not None}


def _kept(table: Table, entries: Iterable[Entry], warnings: list[str]) -> dict[tuple[str, str], list[Entry]]:
    """Return by ``(row, column)`` the one training of each seed that counts; teachers stand under row ""."""
    columns, students = {c.key for c in table.columns}, {r.key for r in table.rows if r.arm != "teacher"}
    found: dict[tuple[str, str, str, int], Entry] = {}
    strangers: dict[str, int] = {}
    for entry in sorted(entries, key=lambda e: (e.finished, e.fingerprint)):
        taught = entry.arm != "teacher"
        row = entry.row if taught else ""
        known = entry.column in columns and (not taught or (row in students and entry.seed in table.seeds))
        if not known or (row, entry.column) in table.left_out:
            name = f"{entry.row or entry.arm} / {entry.column} / seed {entry.seed}"
            strangers[name] = strangers.get(name, 0) + 1
            continue
        # several teachers of one column may share a seed: their labels tell them apart
        key = row, entry.column, "" if taught else entry.label, entry.seed
        before = found.get(key)
        if before is not None and (before.fingerprint, before.finished) != (entry.fingerprint, entry.finished):
            name = f"{entry.row or entry.label} / {entry.column} / seed {entry.seed}"
            warnings.append(f"{name}: trained twice; the one finished {entry.finished} counts, not {before.finished}")
        found[key] = entry
    warnings += [f"{name}: no cell of this table; left out" for name in sorted(strangers)]
    cells: dict[tuple[str, str], list[Entry]] = {}
    for (row, name, _, _), entry in sorted(found.items(), key=lambda item: item[0]):
        cells.setdefault((row, name), []).append(entry)
    return cells


def _score(
    table: Table, row: Line, column: Line, kept: Mapping[tuple[str, str], Sequence[Entry]], warnings: list[str]
) -> Score:
    teacher = row.arm == "teacher"
    key = row.key, column.key
    name = f"{row.key} / {column.key}"
    entries = kept.get(("" if teacher else row.key, column.key), ())
    if teacher:
        entries = [e for e in entries if e.row in ("", row.key)]
    values = [entry.accuracy(table.rule) for entry in entries]
    lacking = [f"{e.seed}" for e, value in zip(entries, values, strict=True) if value is None]
    if lacking:
        warnings.append(f"{name}: no accuracy of the {RULES[table.rule]} for seed {', '.join(lacking)}; left out")
    entries = [entry for entry, value in zip(entries, values, strict=True) if value is not None]
    warnings += [f"{name}: its trainings differ in {what}" for what in ("epochs", "params") if _differ(entries, what)]
    base = kept.get((table.baseline, column.key), ())
    own = row.key == table.baseline or teacher
    return Score(
        row,
        column,
        tuple(entries),
        0 if teacher else len(table.seeds),
        table.left_out.get(key, ""),
        accuracy=spread([v for v in values if v is not None]) if entries else None,
        gain=None if own else paired(by_seed(entries, table.rule), by_seed(base, table.rule)),
        published=tuple(table.published.get(key, ())),
        comparison=_compare(table, key, entries),
    )


def _differ(entries: Sequence[Entry], name: str) -> bool:
    return len({getattr(e, name) for e in entries if e.arm != "teacher"}) > 1


def _compare(table: Table, key: tuple[str, str], entries: Sequence[Entry]) -> Comparison | None:
    published = table.published.get(key, ())
    if not published:
        return None
    source = table.sources[published[0].source]
    rule = source.rule if source.rule in RULES else table.rule
    values = [entry.accuracy(rule) for entry in entries]
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Comparison(published[0], source, rule, None, None, departs=False)
    ours = spread(known)
    delta = ours.mean - published[0].value
    # percentages of two decimals are not exact in binary: 71.30 - 71.00 is to count as 0.30
    return Comparison(published[0], source, rule, ours, delta, round(abs(delta), 9) > table.tolerance)


def _rank(scores: Scores, column: str, rule: str) -> None:
    """Mark the best student of a column, those not told apart from it, and the place of each."""
    run = [s for s in scores.of_column(column) if s.accuracy is not None and not s.teacher]
    if not run:
        return
    means = [s.accuracy.mean for s in run if s.accuracy is not None]
    top = run[means.index(max(means))]
    for one, mean in zip(run, means, strict=True):
        difference = paired(by_seed(one.entries, rule), by_seed(top.entries, rule))
        scores.cells[one.row.key, column] = replace(
            one,
            best=mean == max(means),
            tied=mean < max(means) and difference is not None and difference.undecided,
            rank=1 + sum(other > mean for other in means),
        )
