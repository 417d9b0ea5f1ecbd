"""Runs the missing cells of a table: each its own `distill train` process, or through any Hydra launcher."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from distill import cells as processes
from distill.cells import Forks, run_cells, say
from distill.config import Config
from distill.forked import modules_of
from distill.records import RESULT, is_complete, read_json, write_text
from distill.slots import environments
from distill.tables.checking import Configs, teachers
from distill.tables.progress import Display, watcher
from distill.tables.spec import Cell
from distill.tables.store import Store

GROUP = "WANDB_RUN_GROUP"


def command(store: Store, cell: Cell) -> list[str]:
    """Return the overrides that `distill train` runs a cell with; what marks it comes first, so that the user's win."""
    tried = ["check=static"] if store.smoke else []  # the training itself is a dry run
    marks = [f'tags=["{cell.row}","{cell.column}"]', "quiet=true", *tried]
    return [*marks, *store.overrides(cell), f"out={quoted(store.out)}"]


def quoted(value: object) -> str:
    """Return a text as a value in Hydra's grammar, whatever characters it has."""
    return "'" + str(value).replace("'", "\\'") + "'"


def run(
    store: Store, todo: Sequence[Cell], finished: int, slots: Any, configs: Configs, forks: Forks | None = None
) -> int:
    """Run cells as processes of their own and return how many failed.

    Args:
        store: the table and its folders.
        todo: cells to run, in order.
        finished: how many of those that were asked for are done already.
        slots: as :func:`distill.slots.environments` takes them.
        configs: composed configs of the cells.
        forks: keeps a fork server for the cells of other tables too.

    Raises:
        ValueError: for slots that are neither a number nor a list.
        SystemExit: on SIGTERM, and KeyboardInterrupt on Ctrl-C, after every running cell was asked to stop and did.
    """
    places = environments(slots)
    made = [_process(store, cell, number, configs.of(cell)) for number, cell in enumerate(todo)]
    display = watcher(finished + len(todo), finished, len(places))
    with display if isinstance(display, Display) else contextlib.nullcontext():
        ended = run_cells(made, places, ready=_readiness(configs, todo), watcher=display, forks=forks)
    return sum(outcome.failure is not None for outcome in ended)


def _process(store: Store, cell: Cell, number: int, config: Config | None = None) -> processes.Cell:
    folder = store.folder(cell)
    return processes.Cell(
        number,
        words=str(cell),
        command=[*processes.PROGRAM, "train", *command(store, cell), f"hydra.run.dir={quoted(folder)}"],
        folder=folder,
        environment={GROUP: os.environ.get(GROUP, store.table.name)},
        modules=None if config is None else modules_of(config),
    )


def _readiness(configs: Configs, todo: Sequence[Cell]) -> Callable[[processes.Cell, Sequence[processes.Cell]], bool]:
    """Return whether a cell can start: not while another trains a teacher that it needs, for it would only wait."""
    trained: set[Path] = set()

    @cache
    def needed(number: int) -> frozenset[Path]:
        config = configs.of(todo[number])
        return frozenset() if config is None else frozenset(teachers(config))

    def missing(cell: processes.Cell) -> set[Path]:
        left = needed(cell.number) - trained
        trained.update(folder for folder in left if is_complete(read_json(folder / RESULT)))
        return set(left - trained)

    def ready(cell: processes.Cell, running: Sequence[processes.Cell]) -> bool:
        mine = missing(cell)
        return not mine or mine.isdisjoint(set().union(*map(missing, running)))

    return ready


def launch(store: Store, todo: Sequence[Cell], launcher: str, options: Sequence[str]) -> int:
    """Run cells through a Hydra launcher and return the exit code of the sweep.

    Args:
        store: the table and its folders.
        todo: cells to run, in order.
        launcher: option of the group ``hydra/launcher``.
        options: overrides of Hydra's own, such as ``hydra.launcher.timeout_min=60``.
    """
    from distill.commands import train

    listed = [
        [*command(store, cell), f"hydra.sweep.subdir={quoted(store.folder(cell).relative_to(store.root))}"]
        for cell in todo
    ]
    text = json.dumps(listed, indent=1) + "\n"
    # two runs of one table at a time have a list each
    file = store.root / f"cells-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json"
    write_text(file, text)
    say(f"{len(todo)} cells of {file} through hydra/launcher={launcher}")
    before = os.environ.get(GROUP)
    os.environ[GROUP] = before or store.table.name
    try:
        return train.main([
            "-m", "hydra/sweeper=cells", f"hydra.sweeper.file={quoted(file)}", f"hydra/launcher={launcher}",
            f"hydra.sweep.dir={quoted(store.root)}", *options,
        ])  # fmt: skip
    finally:
        if before is None:
            del os.environ[GROUP]
