"""Reads table.yaml: every mistake at once, in plain words, before anything is composed."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # PyYAML comes with Hydra, its stubs do not

from distill.config import ConfigError
from distill.results import PUBLISHED_RULES, RULES
from distill.signatures import near
from distill.tables.spec import ARMS, TABLE, Line, Matched, Published, Source, Table

KEYS = (
    "title", "paper", "note", "rule", "tolerance", "baseline", "seeds", "overrides", "smoke", "rows", "columns",
    "cells", "left_out", "sources", "published", "metrics",
)  # fmt: skip
NEEDED = ("title", "rule", "seeds", "rows", "columns")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What the key of a row or column looks like: it names folders and becomes a tag."""
GIVEN = ("seed", "seeds", "alone", "out", "hydra.run.dir")
"""Keys that the table itself sets in every cell."""


def read(folder: Path) -> Table:
    """Return the table that ``folder/table.yaml`` declares.

    Raises:
        ConfigError: every mistake in the file, one sentence each.
    """
    path = folder / TABLE
    if not path.is_file():
        raise ConfigError([f"{path}: there is no such file; a table is a folder with a {TABLE}"])
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: is no yaml ({' '.join(str(error).split())})"]) from error
    if not isinstance(content, dict):
        raise ConfigError([f"{path}: must be a mapping with the keys {', '.join(NEEDED)} and so on"])
    reader = _Reader(content)
    table = reader.table(folder)
    if reader.found:
        raise ConfigError([f"{path}: {sentence}" for sentence in reader.found])
    return table


class _Reader:
    """Takes a file's content apart; what is wrong is noted in ``found`` and replaced by something that is not."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content, self.found = content, list[str]()

    def table(self, folder: Path) -> Table:
        """Return the table, right only where nothing was found."""
        self.keys(self.content, KEYS, "")
        self.found += [f"{key}: missing; every table has it" for key in NEEDED if key not in self.content]
        rows = tuple(self.lines("rows", ("title", "overrides", "arm", "note", "matched")))
        columns = tuple(self.lines("columns", ("title", "overrides", "note")))
        self.rows, self.columns = [line.key for line in rows], [line.key for line in columns]
        self.controls(rows)
        sources = self.sources()
        return Table(
            name=folder.resolve().name,
            folder=folder,
            title=self.text("title"),
            paper=self.text("paper"),
            note=self.text("note"),
            rule=self.choice(self.content.get("rule", "last"), RULES, "rule"),
            tolerance=self.number(self.content.get("tolerance", 0.4), "tolerance"),
            baseline=self.baseline(rows),
            seeds=self.seeds(),
            overrides=self.overrides(self.content.get("overrides"), "overrides"),
            smoke=self.overrides(self.content.get("smoke"), "smoke", given=()),
            rows=rows,
            columns=columns,
            cells={at: self.overrides(value, where) for at, where, value in self.by_cell("cells")},
            left_out={at: str(value) for at, _, value in self.by_cell("left_out")},
            published=self.published(sources),
            sources=sources,
            metrics=self.metrics(),
        )

    def keys(self, node: Mapping[str, Any], known: Collection[str], where: str) -> None:
        """Note every key of a node that is not known."""
        inside = f" in {where}" if where else ""
        self.found += [f"{key}: no such key{inside}; {near(str(key), known)}" for key in node if key not in known]

    def known(self, key: Any, known: Collection[str], what: str, where: str) -> bool:
        """Whether a key names a row, column or source; noted where it does not."""
        if key in known:
            return True
        self.found.append(f"{where}: no such {what} as {key}; {near(str(key), known)}")
        return False

    def choice(self, value: Any, choices: Collection[str], where: str) -> str:
        """Return one of several words."""
        if value not in choices:
            self.found.append(f"{where}={value}: {near(str(value), choices)}")
        return str(value)

    def text(self, key: str, node: Mapping[str, Any] | None = None, where: str = "") -> str:
        """Return a text, empty where there is none."""
        value = (self.content if node is None else node).get(key, "")
        if not isinstance(value, str):
            self.found.append(f"{where}{key}={value}: must be a text")
        return str(value).strip()

    def number(self, value: Any, where: str, low: float = 0.0) -> float:
        """Return a finite number of at least ``low``."""
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= low
        if not good:
            self.found.append(f"{where}={value}: must be a number of at least {low:g}")
        return float(value) if good else low

    def mapping(self, value: Any, where: str) -> Mapping[str, Any]:
        """Return a mapping, empty where there is none."""
        if value is None or isinstance(value, dict):
            return value or {}
        self.found.append(f"{where}={value}: must be a mapping")
        return {}

    def overrides(self, value: Any, where: str, given: Collection[str] = GIVEN) -> tuple[str, ...]:
        """Return a list of overrides; those that the table sets itself are refused."""
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self.found.append(f"{where}={value}: must be a list of overrides such as ['loss=[ce,kd]', seed=0]")
            return ()
        for text in value:
            key = text.partition("=")[0].lstrip("+~")
            if "=" not in text and not text.startswith("~"):
                self.found.append(f"{where}: {text}: has no value; write key=value")
            elif key in given:
                self.found.append(f"{where}: {text}: the table itself sets {key}; leave it out")
        return tuple(value)

    def metrics(self) -> tuple[str, ...]:
        """Return the names of what is shown beside accuracy."""
        value = self.content.get("metrics", [])
        if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
            return tuple(value)
        self.found.append(f"metrics={value}: must be a list of columns of metrics.csv, such as [test/nll]")
        return ()

    def seeds(self) -> tuple[int, ...]:
        """Return the seeds: a number n stands for 0 to n - 1."""
        value = self.content.get("seeds", 1)
        seeds = list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value
        good = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
        if not good or not seeds or len(set(seeds)) < len(seeds):
            self.found.append(f"seeds={value}: must be a number of seeds, or a list of different ones such as [0,1,2]")
            return (0,)
        return tuple(seeds)

    def lines(self, kind: str, known: Sequence[str]) -> Iterator[Line]:
        """Give the rows or the columns."""
        nodes = self.mapping(self.content.get(kind), kind)
        if not nodes and kind in self.content:
            self.found.append(f"{kind}: there must be at least one")
        for key, value in nodes.items():
            where = f"{kind}.{key}"
            node = self.mapping(value, where)
            self.keys(node, known, where)
            if not NAME.fullmatch(str(key)):
                self.found.append(f"{where}: must start with a letter and have only letters, digits and _")
            arm = self.choice(node.get("arm", "distilled"), ARMS, f"{where}.arm")
            yield Line(
                key=str(key),
                title=self.text("title", node, f"{where}.") or str(key),
                overrides=self.overrides(node.get("overrides"), f"{where}.overrides"),
                arm=arm,
                note=self.text("note", node, f"{where}."),
                matched=self.matched(node.get("matched"), f"{where}.matched"),
            )

    def matched(self, value: Any, where: str) -> Matched | None:
        """Return what a row is the control of."""
        node = self.mapping(value, where)
        self.keys(node, Matched._fields, where)
        if not node:
            return None
        self.found += [f"{where}.{key}: missing" for key in Matched._fields if key not in node]
        return Matched(str(node.get("of")), self.number(node.get("temperature", 1.0), f"{where}.temperature", 1e-6))

    def controls(self, rows: Sequence[Line]) -> None:
        """Note rows that are the control of what is no row, or cannot have one."""
        by_key = {row.key: row for row in rows}
        for row in rows:
            where = f"rows.{row.key}.matched.of"
            if row.matched and self.known(row.matched.of, by_key, "row", where):
                other = by_key[row.matched.of]
                if other.matched or other.arm != "distilled":
                    self.found.append(f"{where}: {other.key} is no distilled row of its own; choose one that is")

    def baseline(self, rows: Sequence[Line]) -> str:
        """Return the row that gains refer to: as declared, else the student alone, else the first that trains."""
        trained = [row.key for row in rows if row.arm != "teacher"]
        value = self.content.get("baseline")
        if value is not None:
            self.known(value, trained, "row that trains", "baseline")
            return str(value)
        return next((row.key for row in rows if row.arm == "alone"), trained[0] if trained else "")

    def by_cell(self, kind: str) -> Iterator[tuple[tuple[str, str], str, Any]]:
        """Give what stands under a row and a column, with its place."""
        for row, below in self.mapping(self.content.get(kind), kind).items():
            if not self.known(row, self.rows, "row", kind):
                continue
            for column, value in self.mapping(below, f"{kind}.{row}").items():
                if self.known(column, self.columns, "column", f"{kind}.{row}"):
                    yield (row, column), f"{kind}.{row}.{column}", value

    def sources(self) -> dict[str, Source]:
        """Return the sources of published numbers."""
        found = {}
        for key, value in self.mapping(self.content.get("sources"), "sources").items():
            where = f"sources.{key}"
            node = self.mapping(value, where)
            self.keys(node, Source.__dataclass_fields__, where)
            self.found += [f"{where}.{name}: missing" for name in ("title", "rule") if name not in node]
            title, url, note = (self.text(name, node, f"{where}.") for name in ("title", "url", "note"))
            rule = self.choice(node.get("rule", "last"), PUBLISHED_RULES, f"{where}.rule")
            found[str(key)] = Source(title, rule, url, note)
        return found

    def published(self, sources: Collection[str]) -> dict[tuple[str, str], tuple[Published, ...]]:
        """Return published numbers by cell, in the order of the file."""
        found: dict[tuple[str, str], tuple[Published, ...]] = {}
        entries = self.content.get("published") or []
        if not isinstance(entries, list):
            self.found.append(f"published={entries}: must be a list of {{source, row, values}}")
            entries = []
        for i, entry in enumerate(entries):
            where = f"published[{i}]"
            node = self.mapping(entry, where)
            self.keys(node, ("source", "row", "values"), where)
            if "source" not in node:
                self.found.append(f"{where}: has no source; a published number needs one of {', '.join(sources)}")
            elif self.known(node["source"], sources, "source", where):
                row = str(node.get("row"))
                for column, value in self.mapping(node.get("values"), f"{where}.values").items():
                    at = f"{where}.values.{column}"
                    if self.known(row, self.rows, "row", where) and self.known(column, self.columns, "column", where):
                        number = self.number(value, at)
                        if number > 100:
                            self.found.append(f"{at}={value}: must be percent, at most 100")
                        found[row, column] = (*found.get((row, column), ()), Published(number, node["source"]))
        return found
