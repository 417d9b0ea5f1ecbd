"""Where the cells of a table stand on disk, how far each of them is, and the records that they left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from distill.cells import LOG, is_running, last_line
from distill.records import RESULT, Record, is_complete, read_json
from distill.results import SUMMARY
from distill.tables.spec import Cell, Table

LOCAL = {
    "out", "tags", "quiet", "check", "rerun", "checkpoint_every", "ckpt_path", "logger", "dataset.root", "dataset.file",
    "dataset.download", "dataset.workers", "dataset.resident_gb", "dataset.eval_batch_size", "trainer.accelerator",
    "trainer.devices", "trainer.strategy", "trainer.log_every_n_steps",
}  # fmt: skip
"""Keys that say where and how a cell is run, not what it is: another value of them makes no other cell."""
STOPPED = "its checkpoint was saved"
"""What `distill train` says at the end where it was asked to stop."""
DONE, COLLECTED, RUNNING, STARTED, INTERRUPTED, FAILED, MISSING = STATES = (
    "done", "collected", "running", "started", "interrupted", "failed", "missing",
)  # fmt: skip


class State(NamedTuple):
    """How far a cell is, one of ``STATES``, and why it is no further."""

    kind: str
    why: str = ""


class Trained(NamedTuple):
    """A record of a cell: arm, file and content."""

    arm: str
    path: Path
    record: Record


@dataclass(frozen=True)
class Store:
    """The folders of a table's cells.

    Attributes:
        table: declared table.
        out: where runs are kept; the cells' own folders are in ``tables/<name>`` of it.
        extra: overrides of every cell that the command line added.
        smoke: whether the cells are only tried out.
    """

    table: Table
    out: Path
    extra: tuple[str, ...] = ()
    smoke: bool = False

    @cached_property
    def root(self) -> Path:
        """Folder of all cells."""
        return self.out / "tables" / self.table.name

    def folder(self, cell: Cell) -> Path:
        """Return the folder of a cell: its log, its summary and its curves."""
        return self.root / cell.row / cell.column / f"s{cell.seed}"

    def overrides(self, cell: Cell) -> list[str]:
        """Return what a cell is trained with; where its runs are kept is not among it.

        Raises:
            ConfigError: where a matched row has none.
        """
        whole = [*self.table.overrides_of(cell), *self.extra]
        return self.table.tried(whole, cell) if self.smoke else whole

    def state(self, cell: Cell, collected: frozenset[Cell] = frozenset()) -> State:
        """Return how far a cell is.

        Args:
            cell: one of the table.
            collected: cells whose results are in results.csv.
        """
        folder = self.folder(cell)
        if is_running(folder):
            return State(RUNNING)
        summary = read_json(folder / SUMMARY)
        other = summary is not None and settled(_typed(summary)) != settled(self.overrides(cell))
        if summary is not None and not other and self._is_whole(summary):
            return State(DONE)
        if cell in collected:
            return State(COLLECTED)
        if other:
            return State(MISSING, "what is in its folder was trained with other overrides")
        if (folder / LOG).exists():
            said = last_line(folder / LOG)
            return State(INTERRUPTED if STOPPED in said else FAILED, said)
        return State(STARTED, "no result yet") if (folder / ".hydra").exists() else State(MISSING)

    def _is_whole(self, summary: Record) -> bool:
        folders = [name for names in _folders(summary).values() for name in names]
        return bool(folders) and all(is_complete(read_json(self._located(name) / RESULT)) for name in folders)

    def _located(self, name: str) -> Path:
        """Return a run folder by the name that a summary or a checkpoint has for it: the tree may have moved."""
        beside = self.out / Path(name).name
        return beside if beside.is_dir() else Path(name)

    def trained(self, cell: Cell, warnings: list[str]) -> Iterator[Trained]:
        """Give the complete records of a finished cell, those of its teachers too.

        Args:
            cell: one of the table.
            warnings: one sentence is added for each file that is there and cannot be used.
        """
        path = self.folder(cell) / SUMMARY
        if not path.exists():
            return
        summary = read_json(path)
        if summary is None or not _folders(summary):
            warnings.append(f"{path}: not a summary that can be read, left out")
            return
        if settled(_typed(summary)) != settled(self.overrides(cell)):
            warnings.append(f"{path}: of a cell with other overrides than {cell} has now, left out; run it again")
            return
        teachers: dict[Path, None] = {}
        for arm, names in _folders(summary).items():
            for name in names:
                file = self._located(name) / RESULT
                record = read_json(file)
                if record is None or not is_complete(record):
                    what = "half-written or no record" if record is None else "not complete"
                    warnings.append(f"{file}: {what}, left out; run {cell} again")
                    continue
                yield Trained(arm, file, record)
                teachers |= dict.fromkeys(self._teachers(record))
        for file in teachers:
            record = read_json(file)
            if record is not None and is_complete(record):
                yield Trained("teacher", file, record)
            elif file.exists():
                warnings.append(f"{file}: half-written or not complete, left out")

    def _teachers(self, record: Record) -> list[Path]:
        nodes = record.get("config", {}).get("teacher") or {}
        checkpoints = [node.get("checkpoint") for node in nodes.values()]
        return [self._located(str(Path(c).parent)) / RESULT for c in checkpoints if isinstance(c, str) and "/" in c]


def settled(overrides: Sequence[str]) -> tuple[str, ...]:
    """Return what overrides come to: of each key the last, in one order, without what is this machine's only."""
    return tuple(sorted({key_of(text): text for text in shared(overrides)}.values()))


def shared(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that make a cell what it is on every machine, in their order."""
    return [text for text in overrides if not _is_local(key_of(text))]


def key_of(override: str) -> str:
    """Return the part of an override left of ``=``, without the marks for adding and deleting."""
    return override.partition("=")[0].strip().lstrip("+~")


def _is_local(key: str) -> bool:
    return key in LOCAL or key.startswith(("hydra.", "hydra/", "logger."))


def _typed(summary: Record) -> list[str]:
    typed = summary.get("overrides")
    return [str(text) for text in typed] if isinstance(typed, list) else []


def _folders(summary: Record) -> dict[str, list[str]]:
    folders = summary.get("folders")
    if not isinstance(folders, dict) or not all(isinstance(names, list) for names in folders.values()):
        return {}
    return {str(arm): [str(name) for name in names] for arm, names in folders.items()}
