"""Says how far a table is: cells done, running, failed and why, missing, by row and column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table as Grid

from distill.tables.collect import current
from distill.tables.spec import Cell, Table
from distill.tables.store import COLLECTED, DONE, FAILED, INTERRUPTED, MISSING, RUNNING, STARTED, State, Store

FINISHED = (DONE, COLLECTED)
MARKS = {DONE: "✓", COLLECTED: "✓", RUNNING: "▶", STARTED: "…", INTERRUPTED: "‖", FAILED: "✗", MISSING: "·"}
WORDS = {
    DONE: "done", COLLECTED: "known from results.csv only", RUNNING: "running", STARTED: "started elsewhere",
    INTERRUPTED: "interrupted", FAILED: "failed", MISSING: "not run",
}  # fmt: skip


def states(store: Store, cells: Sequence[Cell], fresh: bool = False) -> dict[Cell, State]:
    """Return how far each cell is.

    Args:
        store: the table and its folders.
        cells: to look at.
        fresh: whether what only results.csv knows counts as missing.
    """
    collected = frozenset() if fresh or store.smoke else current(store)
    return {cell: store.state(cell, collected) for cell in cells}


def show(table: Table, found: Mapping[Cell, State]) -> None:
    """Print counts, a grid of rows and columns with a mark for each seed, and why cells failed."""
    # a pipe has no width of its own, and a line that wraps cannot be searched
    console = Console(highlight=False, soft_wrap=True)
    counts = Counter(state.kind for state in found.values())
    named = [f"{counts[kind]} {WORDS[kind]}" for kind in WORDS if counts[kind]]
    console.print(f"{table.name}: {table.title}\n{len(found)} cells: {', '.join(named)}\n", markup=False)
    grid = Grid(show_edge=False, header_style="bold")
    grid.add_column("")
    for line in table.columns:
        grid.add_column(line.key, no_wrap=True)
    for row in table.rows:
        if row.arm != "teacher":
            grid.add_row(row.key, *(_marks(found, row.key, line.key) for line in table.columns))
    Console(width=None if console.is_terminal else 250, highlight=False).print(grid)
    console.print("\none mark a seed: " + ", ".join(f"{MARKS[kind]} {WORDS[kind]}" for kind in WORDS if counts[kind]))
    for cell, state in found.items():
        if state.why and state.kind != STARTED:
            console.print(f"{WORDS[state.kind]}: {cell}: {state.why}", markup=False)


def _marks(found: Mapping[Cell, State], row: str, column: str) -> str:
    marks = [MARKS[state.kind] for cell, state in found.items() if (cell.row, cell.column) == (row, column)]
    return "".join(marks) or "–"
