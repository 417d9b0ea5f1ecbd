"""Finds the comparisons under folders of runs and merges their seeds: what `distill table` shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import OmegaConf

from distill.cells import LOG, last_line
from distill.fit import taught
from distill.records import RESULT, Record, is_complete, read_json
from distill.results import SUMMARY

SEEDS = {"seed", "seeds"}
BOOKKEEPING = {
    "alone", "out", "check", "rerun", "quiet", "tags", "logger", "checkpoint_every", "ckpt_path", "trial",
}  # fmt: skip
"""Overrides that say how a comparison is run, not what is compared."""
ALONE, DISTILLED = "alone", "distilled"


@dataclass
class Row:
    """Everything found of one setting, over all its seeds.

    Attributes:
        setting: the overrides that make it what it is, sorted; seeds and bookkeeping left out.
        typed: the same overrides as the user wrote them, in order.
        name: what it is called where overrides do not tell, as for runs that no comparison has claimed.
        arms: record by seed, by arm.
        teachers: record by run folder of the teachers that were trained for it.
    """

    setting: tuple[str, ...]
    typed: list[str]
    name: str = ""
    arms: dict[str, dict[int, Record]] = field(default_factory=dict)
    teachers: dict[str, Record] = field(default_factory=dict)

    @property
    def main(self) -> dict[int, Record]:
        """Records of the students that were taught, or of those that were not where there is no teacher."""
        return self.arms.get(DISTILLED) or self.arms[ALONE]


@dataclass
class Found:
    """Rows by name and setting, what has no result and why, what a reader should know, what a search gave up."""

    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)


def collect(paths: Iterable[Path]) -> Found:
    """Return what is in sweep folders, job folders, run folders, or a folder of all of these.

    Raises:
        FileNotFoundError: when a path does not exist.
    """
    found, done, folders = Found(), set(), []
    summaries: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder; give a sweep, job or run folder, or all of runs")
        folder = path if path.is_dir() else path.parent
        folders.append(folder)
        summaries |= dict.fromkeys(file.resolve() for file in folder.rglob(SUMMARY))
    # where two cells trained the same seed of the same setting, the later one counts
    for file in sorted(summaries, key=lambda f: (f.stat().st_mtime, f)):
        summary = read_json(file)
        if summary is not None and summary.get("status") == "pruned":
            done.add(_known(summary["overrides"], BOOKKEEPING))
            typed = " ".join(o for o in summary["overrides"] if not _ignored(o, BOOKKEEPING))
            found.pruned.append(f"{typed}: {summary['reason']}")
            continue
        if summary is None or "folders" not in summary:
            found.warnings.append(f"{file}: not a summary that can be read, left out")
            continue
        done.add(_known(summary["overrides"], BOOKKEEPING))
        _add_comparison(found, file, summary)
    for folder in folders:
        found.missing += _unfinished(folder, done)
    if not found.rows and not found.missing:
        _add_runs(found, folders)
    return found


def key_of(override: str) -> str:
    """Return the part of an override left of ``=``, without the marks for adding and deleting."""
    return override.partition("=")[0].strip().lstrip("+~")


def _ignored(override: str, keys: set[str]) -> bool:
    key = key_of(override)
    return key.startswith(("hydra.", "hydra/")) or key.partition(".")[0] in keys


def _known(overrides: Sequence[str], ignored: set[str]) -> tuple[str, ...]:
    return tuple(sorted(o for o in overrides if not _ignored(o, ignored)))


def _add_comparison(found: Found, file: Path, summary: Record) -> None:
    overrides = [str(o) for o in summary["overrides"]]
    records: dict[str, dict[int, Record]] = {}
    for arm, names in summary["folders"].items():
        for name in names:
            record = _locate(name, file)
            if record is None:
                found.missing.append(f"{file.parent}: {name}/{RESULT} is not there, nor beside the sweep; left out")
                return
            records.setdefault(arm, {})[int(record["config"]["seed"])] = record
    if records:
        _merge(found, _row(found, overrides), records, file)


def _row(found: Found, overrides: Sequence[str], name: str = "") -> Row:
    setting = _known(overrides, BOOKKEEPING | SEEDS)
    typed = [o for o in overrides if not _ignored(o, BOOKKEEPING | SEEDS)]
    return found.rows.setdefault((name, *setting), Row(setting, typed, name))


def _merge(found: Found, row: Row, records: dict[str, dict[int, Record]], file: Path) -> None:
    for arm, by_seed in records.items():
        before = row.arms.setdefault(arm, {})
        for seed, record in by_seed.items():
            if seed in before and before[seed].get("fingerprint") != record.get("fingerprint"):
                setting = " ".join(row.setting) or "the defaults"
                found.warnings.append(f"{setting}: seed {seed} ({arm}) was trained with two configs; the later counts")
            before[seed] = record
            for name in _teacher_folders(record):
                teacher = _locate(name, file)
                if teacher is not None:
                    row.teachers[Path(name).name] = teacher


def _teacher_folders(record: Record) -> list[str]:
    checkpoints = [node.get("checkpoint") for node in record["config"].get("teacher", {}).values()]
    return [str(Path(c).parent) for c in checkpoints if isinstance(c, str) and "/" in c]


def _locate(name: str, file: Path) -> Record | None:
    """Return the record of a run folder, looked for above the file that names it first: the tree may have moved."""
    beside = (parent / Path(name).name for parent in file.resolve().parents)
    for folder in (*beside, Path(name)):
        record = read_json(folder / RESULT)
        if is_complete(record):
            return record
    return None


def _unfinished(folder: Path, done: set[tuple[str, ...]]) -> list[str]:
    """Say of every cell without a summary what is known of it; a cell that another one made up for is not named."""
    lines = []
    cells = {f.parent for f in folder.rglob(LOG)} | {f.parent.parent for f in folder.rglob(".hydra/overrides.yaml")}
    for cell in sorted(cells):
        overrides = _typed_in(cell)
        skipped = any(key_of(o) == "check" and o.endswith("only") for o in overrides)
        if (cell / SUMMARY).exists() or skipped or _known(overrides, BOOKKEEPING) in done:
            continue
        log = cell / LOG
        reason = last_line(log) if log.exists() else f"no {SUMMARY}: it failed, was interrupted, or still runs"
        lines.append(f"{cell} ({' '.join(overrides) or 'defaults'}): {reason}")
    return lines


def _typed_in(cell: Path) -> list[str]:
    try:
        typed = OmegaConf.to_container(OmegaConf.load(cell / ".hydra" / "overrides.yaml"))
    except Exception:  # absent, half-written, not a list: then there are no words for it
        return []
    return [str(o) for o in typed] if isinstance(typed, list) else []


def _add_runs(found: Found, folders: Sequence[Path]) -> None:
    """Add run folders that no comparison has claimed: one row for each label, seeds merged."""
    files = {file.resolve(): None for folder in folders for file in folder.rglob(RESULT)}
    for file in sorted(files):
        record = read_json(file)
        if record is None or "config" not in record:
            found.warnings.append(f"{file}: not a record that can be read, left out")
        elif not is_complete(record):
            found.missing.append(f"{file.parent}: {record.get('status')}: {record.get('error', 'run it again')}")
        else:
            arm = DISTILLED if taught(record["config"]) else ALONE
            row = _row(found, record["overrides"], record["label"].rpartition("-s")[0])
            _merge(found, row, {arm: {int(record["config"]["seed"]): record}}, file)
