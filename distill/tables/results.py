"""results.csv and curves.csv of a table: one line a training, one line an epoch; all that rendering reads."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from distill.records import write_text

RESULTS, CURVES = "results.csv", "curves.csv"
DIGITS = {
    "last": 3, "best_on_test": 3, "val_chosen": 3, "val": 3, "agreement": 2, "nll": 4, "ece": 3, "by_class": 1,
    "seconds": 2, "cpu_seconds": 2, "peak_memory": 1,
}  # fmt: skip
"""Decimals that are kept of a number: more than any table shows, and few enough for small files and clean diffs."""
SIGNIFICANT = 5
"""Digits of a value of an epoch."""
KEYS = ("row", "column", "arm", "seed", "fingerprint", "epoch")
"""First columns of curves.csv; the others are the names of what was measured."""


@dataclass(frozen=True)
class Entry:
    """One training of a table, as results.csv keeps it.

    Attributes:
        row: key of the row; ``teacher`` lines carry the key of the row whose arm is ``teacher``, or "".
        column: key of the column.
        arm: ``distilled``, ``alone`` or ``teacher``.
        seed: of the training.
        label: readable name of the run.
        fingerprint: of the run's config; with ``finished`` it tells two trainings of one cell apart.
        last, best_on_test, val_chosen: test accuracy in percent by the three rules; None without a validation split.
        val: validation accuracy in percent of the chosen epoch, or None.
        agreement: percent of test samples on which student and teacher agree, or None.
        nll, ece: of the test split at the chosen epoch; nats and percent.
        by_class: test accuracy in percent of each class at the chosen epoch.
        params, flops: of the student; FLOPs of one image, two a multiply-add.
        epochs, steps: that were trained.
        seconds: of training, evaluation between epochs included.
        cpu_seconds: of all threads of the process in that time, or None in older lines.
        peak_memory: MiB: of tensors on a GPU, of the whole process on a CPU; or None in older lines.
        teacher: label of the teacher's run, or the file that it came from; empty without.
        device: that trained it.
        machine: kind and cores.
        git, code, torch: commit (``*`` where the tree was dirty), hash of the code, version of PyTorch.
        finished: UTC, ISO 8601.
        overrides: that train it again, joined as a shell would read them.
    """

    row: str
    column: str
    arm: str
    seed: int
    label: str
    fingerprint: str
    last: float
    best_on_test: float
    val_chosen: float | None
    val: float | None
    agreement: float | None
    nll: float | None
    ece: float | None
    by_class: tuple[float | None, ...]
    params: int
    flops: int
    epochs: int
    steps: int
    seconds: float
    teacher: str
    device: str
    machine: str
    git: str
    code: str
    torch: str
    finished: str
    overrides: str
    cpu_seconds: float | None = None
    peak_memory: float | None = None

    def accuracy(self, rule: str) -> float | None:
        """Return test accuracy in percent by a rule of :data:`distill.results.RULES`."""
        value = getattr(self, rule)
        return None if value is None else float(value)

    @property
    def training(self) -> Training:
        """What this line and the lines of its curve have in common."""
        return self.row, self.column, self.arm, self.seed, self.fingerprint


@dataclass(frozen=True)
class Epoch:
    """One epoch of one training, as curves.csv keeps it: ``values`` by the names of metrics.csv."""

    row: str
    column: str
    arm: str
    seed: int
    fingerprint: str
    epoch: int
    values: dict[str, float]

    @property
    def training(self) -> Training:
        """What tells the curve it belongs to from another."""
        return self.row, self.column, self.arm, self.seed, self.fingerprint


Training = tuple[str, str, str, int, str]
"""Row, column, arm, seed and fingerprint."""
FIELDS = tuple(field.name for field in fields(Entry))
NEEDED = tuple(field.name for field in fields(Entry) if field.default is MISSING)
_KINDS = {field.name: str(field.type) for field in fields(Entry)}


def read(folder: Path, warnings: list[str] | None = None) -> tuple[list[Entry], list[Epoch]]:
    """Return what results.csv and curves.csv of a folder hold; nothing where they are absent.

    Args:
        folder: of the table.
        warnings: one sentence is added for each line, or file, that cannot be read and is left out.
    """
    said = [] if warnings is None else warnings
    return read_results(folder / RESULTS, said), read_curves(folder / CURVES, said)


def read_results(path: Path, warnings: list[str]) -> list[Entry]:
    """Return the lines of a results.csv, those that cannot be read left out with a warning."""
    return list(_parsed(path, NEEDED, _entry, warnings))


def read_curves(path: Path, warnings: list[str]) -> list[Epoch]:
    """Return the lines of a curves.csv, those that cannot be read left out with a warning."""
    return list(_parsed(path, KEYS, _epoch, warnings))


def write(folder: Path, entries: Sequence[Entry], epochs: Sequence[Epoch]) -> list[Path]:
    """Write results.csv and curves.csv in the order given, each whole or not at all; return their paths."""
    names = sorted({name for epoch in epochs for name in epoch.values})
    rows = [[_text(name, getattr(entry, name)) for name in FIELDS] for entry in entries]
    lines = [[*(str(getattr(e, k)) for k in KEYS), *(_value(e.values.get(n)) for n in names)] for e in epochs]
    _write(folder / RESULTS, FIELDS, rows)
    _write(folder / CURVES, (*KEYS, *names), lines)
    return [folder / RESULTS, folder / CURVES]


def rounded(entry: Entry) -> Entry:
    """Return a line as it will be read again after it was written."""
    return _entry({name: _text(name, getattr(entry, name)) for name in FIELDS})


def _write(path: Path, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _text(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join("-" if v is None else _fixed(v, DIGITS[name]) for v in value)
    if value is None:
        return ""
    return _fixed(value, DIGITS[name]) if name in DIGITS else str(value)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def significant(value: float) -> float:
    """Return a value of an epoch as it will be read again after it was written."""
    return float(_value(value))


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.{SIGNIFICANT}g}"


T = TypeVar("T")


def _parsed(path: Path, needed: Sequence[str], make: Callable[[dict[str, str]], T], warnings: list[str]) -> Iterator[T]:
    """Give what each line of a csv file says; a line, or a whole file, that says nothing is named in a warning."""
    if not path.is_file():
        return
    reader = csv.reader(io.StringIO(path.read_text(errors="replace").replace("\0", "")))
    lines = _lines(reader, path, warnings)
    heads = next(lines, (0, []))[1]
    while heads and heads[0].startswith("<<<<<<<"):  # of a merge that git left to the reader
        heads = next(lines, (0, []))[1]
    if not set(needed) <= set(heads):
        missing = ", ".join(name for name in needed if name not in heads)
        warnings.append(f"{path}: is no {RESULTS} or {CURVES} of distill (it has no {missing}), left out")
        return
    for number, line in lines:
        if not line:
            continue
        if line[: len(needed)] == list(needed):  # the head of the other side of a merge
            heads = line
            continue
        try:
            if len(line) != len(heads):
                raise ValueError(f"has {len(line)} values for {len(heads)} columns")
            yield make(dict(zip(heads, line, strict=True)))
        except ValueError as error:
            warnings.append(f"{path}, line {number}: {error}; left out")


def _lines(reader: Any, path: Path, warnings: list[str]) -> Iterator[tuple[int, list[str]]]:
    while True:
        try:
            line = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            warnings.append(f"{path}, line {reader.line_num}: {error}; left out")
            continue
        yield reader.line_num, line


def _entry(line: dict[str, str]) -> Entry:
    made: dict[str, Any] = {name: _read(_KINDS[name], line[name]) for name in FIELDS if name in line}
    if not all(made[name] for name in ("column", "arm", "fingerprint", "finished")):
        raise ValueError("has no column, arm, fingerprint or time")
    return Entry(**made)


def _epoch(line: dict[str, str]) -> Epoch:
    values = {name: number(text) for name, text in line.items() if name not in KEYS and text}
    row, column, arm, seed, fingerprint, epoch = (line[key] for key in KEYS)
    return Epoch(row, column, arm, int(seed), fingerprint, int(epoch), values)


def _read(kind: str, text: str) -> Any:
    if kind.startswith("tuple"):
        return tuple(None if word == "-" else number(word) for word in text.split())
    if kind.startswith("float"):
        return None if kind.endswith("None") and not text else number(text)
    return int(text) if kind == "int" else text


def number(text: str) -> float:
    """Return a finite number.

    Raises:
        ValueError: when the text is none.
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value
