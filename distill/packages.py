"""Finds modules and what their top level binds by reading files; imports nothing."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path


class Missing(LookupError):
    """A name does not exist; carries what holds it, the name and what there is instead."""

    def __init__(self, holder: str, name: str, known: list[str]) -> None:
        super().__init__(f"{holder} has no {name}")
        self.holder, self.name, self.known = holder, name, known


class Unreadable(LookupError):
    """Source does not say: a compiled module, a name that is made when the program runs, a file that does not parse."""


@dataclass
class Bound:
    """Names that statements bind, with the statement, and modules whose names ``from x import *`` takes over."""

    names: dict[str, ast.stmt] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Module:
    """A module or package as its source describes it.

    Attributes:
        name: dotted.
        file: its source; None for a folder without ``__init__.py``.
        folders: where its submodules are; empty unless it is a package.
    """

    name: str
    file: Path | None
    folders: tuple[Path, ...]

    @cached_property
    def bound(self) -> Bound:
        """What its top level binds; read when it is first needed.

        Raises:
            Unreadable: when the file does not parse.
        """
        found = Bound()
        if self.file is not None:
            try:
                tree = ast.parse(self.file.read_bytes())
            except (OSError, SyntaxError, ValueError) as error:
                raise Unreadable(self.name) from error
            _bind(tree.body, self, found)
        return found

    @property
    def package(self) -> str:
        """Package that relative imports start from."""
        return self.name if self.folders else self.name.rpartition(".")[0]


def module_of(name: str) -> Module | None:
    """Return the innermost module on the way to a dotted name; None where there is none to read."""
    first, *rest = name.split(".")
    try:
        found = module(first)
        for part in rest:
            inner = submodule(found, part)
            if inner is None:
                break
            found = inner
    except LookupError:
        return None
    return found


def module(name: str) -> Module:
    """Return a module by its dotted name."""
    first, *rest = name.split(".")
    found = _top(first)
    for part in rest:
        inner = submodule(found, part)
        if inner is None:
            raise Missing(found.name, part, names_in(found))
        found = inner
    return found


def _top(name: str) -> Module:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError) as error:  # a module without a spec, such as __main__
        raise Unreadable(name) from error
    if spec is None:
        raise Missing("", name, [])
    folders = tuple(Path(place) for place in spec.submodule_search_locations or ())
    if not spec.has_location:
        if not folders:
            raise Unreadable(name)
        return Module(name, None, folders)
    return _read(name, Path(spec.origin or ""), folders)


def submodule(package: Module, part: str) -> Module | None:
    """Return a module inside a package; None where there is none."""
    name = f"{package.name}.{part}"
    for folder in package.folders:
        inside = folder / part
        if (inside / "__init__.py").is_file():
            return _read(name, inside / "__init__.py", (inside,))
        if inside.with_name(f"{part}.py").is_file():
            return _read(name, inside.with_name(f"{part}.py"), ())
        if next(folder.glob(f"{part}.*.so"), None) or next(folder.glob(f"{part}.*pyd"), None):
            raise Unreadable(name)
        if inside.is_dir():
            return Module(name, None, (inside,))
    return None


def _read(name: str, file: Path, folders: tuple[Path, ...]) -> Module:
    if file.suffix != ".py":
        raise Unreadable(name)
    try:
        stat = file.stat()
    except OSError as error:
        raise Unreadable(name) from error
    return _module(name, file, folders, stat.st_mtime_ns, stat.st_size)


@cache
def _module(name: str, file: Path, folders: tuple[Path, ...], mtime: int, size: int) -> Module:
    return Module(name, file, folders)


def _bind(body: list[ast.stmt], holder: Module, into: Bound) -> None:
    """Note what statements bind; of alternatives (``try``, ``if``) the first."""
    for statement in body:
        match statement:
            case ast.ImportFrom(names=[ast.alias(name="*")]):
                into.stars.append(absolute(holder, statement))
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    into.names[alias.asname or alias.name.partition(".")[0]] = statement
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                into.names[name] = statement
            case ast.Assign(targets=targets):
                into.names.update((t.id, statement) for t in targets if isinstance(t, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
                into.names[name] = statement
            case ast.If() | ast.Try() | ast.With():
                for part in _branches(statement):
                    inner = Bound()
                    _bind(part, holder, inner)
                    into.names = {**inner.names, **into.names}
                    into.stars += inner.stars


def _branches(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    yield getattr(statement, "body", [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body
    yield getattr(statement, "orelse", [])
    yield getattr(statement, "finalbody", [])


def absolute(holder: Module, statement: ast.ImportFrom) -> str:
    """Return the module that ``from ... import`` names, without dots in front."""
    if not statement.level:
        return statement.module or ""
    package = holder.package.split(".")
    kept = package[: len(package) - statement.level + 1]
    return ".".join([*kept, *([statement.module] if statement.module else [])])


def names_in(holder: Module) -> list[str]:
    """Return the public names in a module, its submodules among them."""
    inside = {
        path.stem
        for folder in holder.folders
        for path in folder.iterdir()
        if path.suffix == ".py" or next(path.glob("*.py"), None)
    }
    return sorted(name for name in {*holder.bound.names, *inside} if not name.startswith("_"))
