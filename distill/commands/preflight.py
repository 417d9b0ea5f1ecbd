"""Reads the command line of `distill train` and says everything that is wrong with it, and with a sweep's cells."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import OmegaConf

from distill.commands.composing import MULTI, WRONG, Composer, Typed
from distill.config import Config, ConfigError, plain
from distill.search.settings import SWEEPER, mistakes

MOST = 200
"""Cells of a sweep that are looked at."""


@dataclass
class Cell:
    """One config that a command line stands for; ``words`` tells it from the others of a sweep."""

    words: str
    config: Config


@dataclass
class Findings:
    """What a look at a command line gave.

    Attributes:
        mistakes: one sentence each.
        cells: what would be run; in a sweep only those that were looked at.
        only: whether nothing but this look was asked for.
        notes: what could not be looked at.
        said: how many of the mistakes were printed as soon as they were found.
        lasting: whether the same will be found tomorrow, if nothing changes.
    """

    mistakes: list[str] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    only: bool = False
    notes: list[str] = field(default_factory=list)
    said: int = 0
    lasting: bool = True


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the command line in the form of Hydra's parser, options and overrides in any order.

    Raises:
        ConfigError: names the option that does not exist, or folder that is not there.
    """
    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        words = message.removeprefix("unrecognized arguments: ")
        option = words.split()[0].lstrip("-").replace("-", "_") if words != message else ""
        key = option.partition("=")[0]
        fix = f"settings have no dashes: write {key}=VALUE" if option else "see distill train --help"
        raise ConfigError([f"{words}: {'no such option; ' if option else ''}{fix}"])

    parser.error = refuse  # type: ignore[method-assign]
    line = parser.parse_intermixed_args(list(arguments))
    for option, value in (("--config-dir", line.config_dir), ("--config-path", line.config_path)):
        if value is not None and not Path(value).is_dir():
            raise ConfigError([f"{option} {value}: there is no such folder; give one with groups of configs in it"])
    return line


def look(
    line: argparse.Namespace, checks: bool = True, early: Callable[[Findings], None] = lambda found: None
) -> Findings:
    """Compose what a command line stands for and say everything that is wrong with it.

    Args:
        line: as :func:`parsed` returns it.
        checks: also check the configs; else only whether they compose.
        early: called with the mistakes that show at once, where to find the others takes the import of torch.
    """
    found = Findings()
    with Composer(line.config_name or "train", line.config_path, line.config_dir) as composer:
        typed = []
        for text in line.overrides:
            try:
                typed.append(composer.parse(text))
            except ValueError as error:
                found.mistakes.append(str(error))
        many = line.multirun or "hydra.mode=MULTIRUN" in line.overrides
        if not many:
            typed = _no_sweeps(typed, found)
        base, lists = _sweeps(composer, typed, found, many)
        try:
            config, mistakes = composer.compose(base)
        except WRONG as error:  # without any override, too
            found.mistakes.append(_first_line(error))
            return found
        found.mistakes += mistakes
        lists = {
            i: v for i, v in lists.items() if not any(m.startswith(f"{base[i].text}: no such key") for m in mistakes)
        }
        found.only = str(config.get("check")).endswith("only")
        seen = {tuple(t.text for t in base)}
        listed = _listed(config, found)
        if not listed:
            found.cells.append(Cell(_words(base, lists), plain_of(config)))
        cells = [(_words(cell, lists), cell) for cell in _cells(base, lists, found)]
        for words, cell in [*cells, *((" ".join(own), [*base, *map(composer.parse, own)]) for own in listed)]:
            key = tuple(t.text for t in cell)
            if key not in seen:
                seen.add(key)
                config, mistakes = composer.compose(cell)
                found.mistakes += mistakes
                found.cells.append(Cell(words, plain_of(config)))
    found.mistakes = list(dict.fromkeys(found.mistakes))
    if checks:
        _check(found, early)
    return found


def plain_of(config: Any) -> Config:
    """Return a composed config as a plain dict without Hydra's own part."""
    return plain(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))


def _no_sweeps(typed: list[Typed], found: Findings) -> list[Typed]:
    kept = []
    for one in typed:
        if one.parsed.is_sweep_override():
            alone = f", or {one.key}=[{one.text.partition('=')[2]}] for all at once" if one.key in MULTI else ""
            found.mistakes.append(f"{one.text}: several values need a sweep; add -m{alone}")
        else:
            kept.append(one)
    return kept


def _sweeps(
    composer: Composer, typed: list[Typed], found: Findings, many: bool
) -> tuple[list[Typed], dict[int, list[Typed]]]:
    """Return the first cell, and every value of each override that is swept by its place in that cell."""
    lists: dict[int, list[Typed]] = {}
    fixed = [t for t in typed if not t.parsed.is_sweep_override()]
    try:
        whole = composer.full([t.text for t in fixed])
        sweeper = whole.hydra.sweeper
        if many and sweeper._target_ == SWEEPER:
            found.mistakes += mistakes(plain(sweeper), plain_of(whole))
    except WRONG:
        sweeper = OmegaConf.create({"_target_": "hydra._internal.BasicSweeper"})
    every = list(typed)
    for key, value in (sweeper.get("params") or {}).items():
        try:
            every.append(composer.parse(f"{key}={value}"))
        except ValueError as error:
            found.mistakes.append(f"hydra.sweeper.params.{error}")
    base: list[Typed] = []
    for one in every:
        values = [one]
        if one.parsed.is_sweep_override():
            values = _values(composer, one, "BasicSweeper" in sweeper._target_, found)
            if not values:
                continue
            lists[len(base)] = values
        base.append(values[0])
    return base, lists


def _values(composer: Composer, one: Typed, basic: bool, found: Findings) -> list[Typed]:
    override, key = one.parsed, one.parsed.get_key_element()
    if isinstance(override._value, IntervalSweep):
        if basic:
            found.mistakes.append(f"{one.text}: an interval needs a search; add hydra/sweeper=optuna")
            return []
        return [composer.parse(f"{key}={end}") for end in (override._value.start, override._value.end)]
    values = [composer.parse(f"{key}={value}") for value in override.sweep_string_iterator()]
    if not values:
        found.mistakes.append(f"{one.text}: stands for no value; choose among {', '.join(composer.options(one.key))}")
    return values


def _cells(base: list[Typed], lists: dict[int, list[Typed]], found: Findings) -> list[list[Typed]]:
    """Return each value of each sweep once, the others at their first; the whole product for check=only."""
    if found.only:
        product = itertools.product(*(lists.get(i, [one]) for i, one in enumerate(base)))
        cells = [list(cell) for cell in itertools.islice(product, MOST + 1)]
    else:
        cells = [[*base[:i], value, *base[i + 1 :]] for i, values in lists.items() for value in values]
    if len(cells) > MOST:
        found.notes.append(f"only the first {MOST} cells were checked")
    return cells[:MOST]


def _listed(config: Any, found: Findings) -> list[list[str]]:
    """Return the overrides of each cell that a file lists, where hydra/sweeper=cells reads one."""
    sweeper = config.hydra.sweeper
    if not sweeper._target_.endswith(".CellsSweeper"):
        return []
    from hydra_plugins.distill_cells_sweeper import read_cells

    try:
        cells = read_cells(str(sweeper.get("file")))
    except ValueError as error:
        found.mistakes.append(str(error))
        return []
    if len(cells) > MOST:
        found.notes.append(f"only the first {MOST} cells were checked")
    return cells[:MOST]


def _words(cell: list[Typed], lists: dict[int, list[Typed]]) -> str:
    return " ".join(cell[i].text for i in lists)


def _check(found: Findings, early: Callable[[Findings], None]) -> None:
    from distill.verdict import Case

    composed = not found.mistakes
    said: set[str] = set()

    def add(cell: Cell, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            if sentence not in said:
                named = cell is found.cells[0] or any(w.partition("=")[0] in sentence for w in cell.words.split())
                found.mistakes.append(sentence if named else f"{sentence} (in the cell {cell.words})")
            said.add(sentence)
        found.mistakes = list(dict.fromkeys(found.mistakes))

    cases = [(cell, Case(cell.config, composed and cell.config.get("check") != "static")) for cell in found.cells]
    for cell, case in cases:
        add(cell, case.quick)
    if found.mistakes and not all(case.remembered for _, case in cases):
        early(found)
    tried: set[str] = set()
    for cell, case in cases:
        add(cell, case.mistakes(tried))
        found.lasting &= case.lasting


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split("\n\n")[0].split())
    return f"{text}; correct the configuration files" if text else type(error).__name__
