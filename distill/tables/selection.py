"""Reads which cells of a table are asked for, and how many run at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from distill.config import ConfigError
from distill.signatures import near
from distill.tables.spec import Cell, Table


def selected(table: Table, only: Sequence[str], seeds: int | None) -> list[Cell]:
    """Return the cells that are asked for, the first seed of all before the second of any.

    Args:
        table: declared table.
        only: texts such as ``row=kd,dkd`` or ``row=kd,seed=0``.
        seeds: how many seeds; None for all.

    Raises:
        ConfigError: when a word names no row, column or seed of the table.
    """
    known = {
        "row": [line.key for line in table.rows if line.arm != "teacher"],
        "column": [line.key for line in table.columns],
        "seed": [str(seed) for seed in table.seeds],
    }
    wanted: dict[str, list[str]] = {}
    found, key = [], ""
    for word in (word for text in only for word in text.split(",")):
        key, value = word.split("=", 1) if "=" in word else (key, word)
        if key not in known:
            found.append(f"--only {word}: write row=..., column=... or seed=...")
        elif value not in known[key]:
            found.append(f"--only {key}={value}: no such {key}; {near(value, known[key])}")
        wanted.setdefault(key, []).append(value)
    if seeds is not None and not 1 <= seeds <= len(table.seeds):
        found.append(f"--seeds {seeds}: must be between 1 and {len(table.seeds)}, the seeds of the table")
    if found:
        raise ConfigError(found)
    chosen = {kind: set(wanted.get(kind, names)) for kind, names in known.items()}
    cells = [
        cell
        for cell in table
        if cell.row in chosen["row"] and cell.column in chosen["column"] and str(cell.seed) in chosen["seed"]
    ]
    kept = [cell for cell in cells if seeds is None or cell.seed in table.seeds[:seeds]]
    return sorted(kept, key=lambda cell: table.seeds.index(cell.seed))


def covering(cells: Sequence[Cell]) -> list[Cell]:
    """Return some of the cells, in their order: every row once, and every column, which the rows take in turns."""
    columns = Counter(dict.fromkeys((cell.column for cell in cells), 0))
    rows = dict.fromkeys(cell.row for cell in cells)
    kept = set[Cell]()
    for row in rows:
        rarest = min((cell for cell in cells if cell.row == row), key=lambda cell: columns[cell.column])
        columns[rarest.column] += 1
        kept.add(rarest)
    for column in [column for column, count in columns.items() if not count]:
        kept.add(next(cell for cell in cells if cell.column == column))
    return [cell for cell in cells if cell in kept]


def slots_of(text: str | None) -> Any:
    """Return a number of slots, or a list of CUDA_VISIBLE_DEVICES values, as typed; None where nothing was."""
    if text is None or text.isdigit():
        return None if text is None else int(text)
    return yaml.safe_load(text if text.startswith("[") else f"[{text}]")
