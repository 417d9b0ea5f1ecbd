"""Checks every cell of a table: each composes and passes the static check; what was checked before is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from distill import memo
from distill.commands.composing import WRONG, Composer
from distill.commands.preflight import plain_of
from distill.config import Config, ConfigError
from distill.tables.spec import Cell
from distill.tables.store import Store


class Place(NamedTuple):
    """A row and a column."""

    row: str
    column: str

    def __str__(self) -> str:
        return f"{self.row} / {self.column}"


class Configs:
    """Composed configs of a table's cells: one for each row and column, for seeds change nothing but the seed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[Place, tuple[Config | None, list[str]]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Configs:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def _composer(self) -> Composer:
        return self._stack.enter_context(Composer())

    def at(self, place: Place) -> tuple[Config | None, list[str]]:
        """Return the config of a row and column for the first seed, None where there is none; and what is wrong."""
        if place not in self._known:
            self._known[place] = self._compose(place)
        return self._known[place]

    def of(self, cell: Cell) -> Config | None:
        """Return the config of a cell."""
        config, _ = self.at(Place(cell.row, cell.column))
        return None if config is None else {**config, "seed": cell.seed}

    def _compose(self, place: Place) -> tuple[Config | None, list[str]]:
        typed, found = [], list[str]()
        try:
            overrides = overrides_of(self.store, place)
        except ConfigError as error:
            return None, error.problems
        for text in [*overrides, f"out={self.store.out}"]:
            try:
                typed.append(self._composer.parse(text))
            except ValueError as error:
                found.append(str(error))
        try:
            config, mistakes = self._composer.compose(typed)
        except WRONG as error:
            return None, [*found, str(error).splitlines()[0]]
        return plain_of(config), [*found, *mistakes]


def overrides_of(store: Store, place: Place) -> list[str]:
    """Return the overrides of the first cell of a row and column."""
    return store.overrides(Cell(*place, store.table.seeds[0]))


def places(cells: Sequence[Cell]) -> list[Place]:
    """Return each row and column that some cells are in, once."""
    return list(dict.fromkeys(Place(cell.row, cell.column) for cell in cells))


def check(configs: Configs, where: Sequence[Place]) -> list[str]:
    """Return one sentence for each mistake in the cells of a table; remembered until something changes.

    Args:
        configs: of the table.
        where: rows and columns that are looked at.
    """
    store = configs.store
    try:
        asked: list[Any] = [(place, overrides_of(store, place)) for place in where]
    except ConfigError:
        return _said(_looked(configs, where)[0])
    name = memo.key("table", asked, str(store.out))
    known = memo.recall(name)
    if known is None:
        found, lasting, seen = _looked(configs, where)
        known = {"mistakes": _said(found)}
        if lasting and not any("searchpath" in text for _, overrides in asked for text in overrides):
            memo.keep(name, known, seen, known["mistakes"])
    return [str(sentence) for sentence in known["mistakes"]]


def _looked(configs: Configs, where: Sequence[Place]) -> tuple[dict[Place, list[str]], bool, list[Config]]:
    """Return the mistakes of each place, whether they will be the same tomorrow, and the configs they are about."""
    from distill.verdict import Case

    found: dict[Place, list[str]] = {}
    seen: list[Config] = []
    cases = {}
    for place in where:
        config, found[place] = configs.at(place)
        if config is not None:
            cases[place] = Case(config, dry_run=False)
            seen += [config, cases[place].looked.config]
    lasting, tried = len(cases) == len(where), set[str]()
    for place, case in cases.items():
        found[place] += [s for s in case.mistakes(tried) if s not in found[place]]
        lasting &= case.lasting
    return found, lasting, seen


def _said(found: Mapping[Place, Sequence[str]]) -> list[str]:
    """Return each sentence once, with the cells that it is true of."""
    where: dict[str, list[Place]] = {}
    for place, sentences in found.items():
        for sentence in sentences:
            where.setdefault(sentence, []).append(place)
    return [f"{_named(at, len(found))}: {sentence}" for sentence, at in where.items()]


def _named(at: Sequence[Place], count: int) -> str:
    if len(at) == count > 1:
        return "every cell"
    more = f" and {len(at) - 2} more" if len(at) > 2 else ""
    return ", ".join(map(str, at[:2])) + more


def teachers(config: Config) -> Iterator[Path]:
    """Give the run folder of each teacher that a config trains on first use."""
    from distill.comparison import teacher_config
    from distill.fit import folder_of

    for name, node in config["teacher"].items():
        if node["checkpoint"] == "train":
            yield folder_of(teacher_config(config, name))
