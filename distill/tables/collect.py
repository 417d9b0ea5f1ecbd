"""Collects a table's results: the clean union of records on disk and of results.csv files, one's own and others'."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from distill.records import Record
from distill.tables import results
from distill.tables.results import CURVES, RESULTS, Entry, Epoch, Training, rounded
from distill.tables.spec import ARMS, Cell, Table
from distill.tables.store import Store, Trained, settled, shared

MOST = 100
"""Epochs of a training that a curve keeps; of a longer one every second, third, ... and the last."""
UNKEPT = ("epoch", "step", "seconds", "train/grad_norm")
"""Columns of metrics.csv that no plot of a table shows."""
BAD = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What a record that is none makes its reader raise."""


class Found(NamedTuple):
    """Lines of one place: a store, or a results.csv with its curves.csv."""

    entries: list[Entry]
    epochs: list[Epoch]


@dataclass
class Collected:
    """The union, what was added to the table's own files, and what a reader should know."""

    entries: list[Entry]
    epochs: list[Epoch]
    new: int
    warnings: list[str]


def collect(store: Store, others: Iterable[Path] = ()) -> Collected:
    """Return the union of a table's own files, of the records of its cells and of other people's csv files.

    Args:
        store: the table and its cells.
        others: results.csv files, curves.csv files, or folders with both.

    Raises:
        FileNotFoundError: when one of ``others`` does not exist.
    """
    warnings: list[str] = []
    own = Found(*results.read(store.table.folder, warnings))
    found = [records(store, warnings), own, *(_other(path, warnings) for path in others)]
    kept = [Found(_of_table(store, place.entries, warnings), place.epochs) for place in found]
    entries = _union(store.table, [entry for place in kept for entry in place.entries], warnings)
    known = {(entry.training, entry.finished) for entry in own.entries}
    new = sum((entry.training, entry.finished) not in known for entry in entries)
    return Collected(entries, _curves(store.table, entries, kept), new, warnings)


def current(store: Store) -> frozenset[Cell]:
    """Return the cells of a table as it is now whose results are in its results.csv."""
    entries = _of_table(store, results.read(store.table.folder)[0], [])
    return frozenset(Cell(e.row, e.column, e.seed) for e in entries if e.arm != "teacher")


def records(store: Store, warnings: list[str]) -> Found:
    """Return what the finished cells of a store come to."""
    entries: dict[tuple[Training, str], Entry] = {}
    epochs: dict[Training, list[Epoch]] = {}
    for cell in store.table:
        for trained in store.trained(cell, warnings):
            try:
                entry = entry_of(store, cell, trained)
                curve = curve_of(entry, trained.record)
            except BAD as error:
                warnings.append(f"{trained.path}: is no record of distill ({type(error).__name__}: {error}), left out")
                continue
            entries[entry.training, entry.finished] = entry
            epochs[entry.training] = curve
    return Found(list(entries.values()), [epoch for curve in epochs.values() for epoch in curve])


def entry_of(store: Store, cell: Cell, trained: Trained) -> Entry:
    """Return the line of results.csv for one record; raises one of ``BAD`` where it is none."""
    arm, path, record = trained
    row = store.table.row(cell.row)
    teacher = next((line.key for line in store.table.rows if line.arm == "teacher"), "")
    accuracy, test = record["accuracy"], record["test"]
    overrides = record["overrides"] if arm == "teacher" else store.overrides(cell)
    finished = record.get("finished") or datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
    entry = Entry(
        row=teacher if arm == "teacher" else row.key,
        column=cell.column,
        arm=arm,
        seed=int(record["config"]["seed"]),
        label=record["label"],
        fingerprint=record["fingerprint"],
        last=float(accuracy["last"]),
        best_on_test=float(accuracy["best_on_test"]),
        val_chosen=accuracy["val_chosen"],
        val=accuracy.get("val"),
        agreement=test.get("agreement"),
        nll=test["nll"],
        ece=test["ece"],
        by_class=tuple(test["by_class"]),
        params=int(record["params"]),
        flops=int(record["flops"]),
        epochs=int(record["epochs"]),
        steps=int(record["steps"]),
        seconds=float(record["seconds"]),
        teacher=_teacher(record),
        device=record["device"],
        machine=record["machine"],
        git=(record["git"].get("sha") or "")[:10] + "*" * bool(record["git"].get("dirty")),
        code=record["code"],
        torch=record["versions"]["torch"],
        finished=finished,
        overrides=shlex.join(shared(overrides)),
        cpu_seconds=record.get("cpu_seconds"),
        peak_memory=record.get("peak_memory"),
    )
    return rounded(entry)


def _teacher(record: Record) -> str:
    """Return the labels of the runs that taught, without the fingerprint that ends the name of a run folder."""
    names = []
    for node in record["config"]["teacher"].values():
        path = Path(str(node["checkpoint"]))
        ours = path.name == "student.safetensors" and "-" in path.parent.name
        names.append(path.parent.name.rpartition("-")[0] if ours else path.name)
    return "+".join(names)


def curve_of(entry: Entry, record: Record) -> list[Epoch]:
    """Return the lines of curves.csv for one record."""
    history = record["history"]
    every = -(-len(history) // MOST)
    chosen = [line for i, line in enumerate(history, 1) if i % every == 0 or i == len(history)]
    curve = []
    for line in chosen:
        values = {k: results.significant(v) for k, v in line.items() if k not in UNKEPT and v is not None}
        curve.append(Epoch(*entry.training, int(line["epoch"]), values))
    return curve


def _other(path: Path, warnings: list[str]) -> Found:
    if path.is_dir():
        return Found(*results.read(path, warnings))
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give a {RESULTS}, or the folder of a table")
    with path.open(errors="replace") as file:
        curves = file.readline().startswith(",".join(results.KEYS))
    if curves:
        return Found([], results.read_curves(path, warnings))
    beside = path.with_name(path.name.replace(Path(RESULTS).stem, Path(CURVES).stem))
    epochs = results.read_curves(beside, warnings) if beside != path else []
    return Found(results.read_results(path, warnings), epochs)


def _of_table(store: Store, entries: Iterable[Entry], warnings: list[str]) -> list[Entry]:
    """Return the lines that are of this table as it is declared now; say of the others why they are not."""
    table, kept, refused = store.table, list[Entry](), Counter[str]()
    columns = {line.key for line in table.columns}
    rows = {line.key: line for line in table.rows}
    settings: dict[Cell, tuple[str, ...]] = {}
    for entry in entries:
        cell = Cell(entry.row, entry.column, entry.seed)
        why = ""
        if entry.column not in columns or entry.arm not in ARMS:
            why = f"there is no column {entry.column} or no arm {entry.arm}"
        elif entry.arm != "teacher" and (entry.row not in rows or rows[entry.row].arm != entry.arm):
            why = f"there is no row {entry.row} that trains the arm {entry.arm}"
        elif entry.arm != "teacher":
            if cell not in settings:
                settings[cell] = settled(store.overrides(cell))
            if settled(shlex.split(entry.overrides)) != settings[cell]:
                why = f"{entry.row} / {entry.column} has other overrides now"
        if why:
            refused[why] += 1
        else:
            kept.append(entry)
    warnings += [f"{n} line{'s' if n > 1 else ''} left out: {why}" for why, n in refused.items()]
    return kept


def _union(table: Table, entries: Sequence[Entry], warnings: list[str]) -> list[Entry]:
    """Return each training once, in the order of the table; teachers only where a line names them."""
    found: dict[tuple[Training, str], Entry] = {}
    for entry in entries:
        before = found.setdefault((entry.training, entry.finished), entry)
        if before != entry:
            where = Cell(entry.row, entry.column, entry.seed)
            warnings.append(f"{where}: two lines say different things of the training of {entry.finished}; one kept")
            found[entry.training, entry.finished] = min(before, entry, key=repr)
    used = {(entry.column, label) for entry in found.values() for label in entry.teacher.split("+")}
    kept = [e for e in found.values() if e.arm != "teacher" or (e.column, e.label) in used]
    return sorted(kept, key=lambda entry: (*_place(table, entry.training), entry.finished))


def _curves(table: Table, entries: Sequence[Entry], places: Sequence[Found]) -> list[Epoch]:
    """Return one curve for each training: of the place that knows the latest of those with its name."""
    wanted = {entry.training for entry in entries}
    chosen: dict[Training, tuple[str, dict[int, Epoch]]] = {}
    for place in places:
        latest: dict[Training, str] = {}
        for entry in place.entries:
            latest[entry.training] = max(entry.finished, latest.get(entry.training, ""))
        curves: dict[Training, dict[int, Epoch]] = {}
        for epoch in place.epochs:
            curves.setdefault(epoch.training, {})[epoch.epoch] = epoch
        for training, curve in curves.items():
            when = latest.get(training, "")
            if training in wanted and (training not in chosen or when > chosen[training][0]):
                chosen[training] = when, curve
    order = sorted(chosen, key=lambda training: _place(table, training))
    return [epoch for training in order for _, epoch in sorted(chosen[training][1].items())]


def _place(table: Table, training: Training) -> tuple[int, int, int, int, str]:
    row, column, arm, seed, fingerprint = training
    rows = [line.key for line in table.rows]
    columns = [line.key for line in table.columns]
    at = rows.index(row) if row in rows else -1
    return at, columns.index(column), ARMS.index(arm), seed, fingerprint
