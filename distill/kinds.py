"""Kind: which plain config values an annotated parameter takes; made from source by reading.py, or by imported.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class _Unknown:
    def __repr__(self) -> str:  # the same in every process
        return "unknown"


UNKNOWN = _Unknown()
"""Stands for a value that is wrong or missing already, so that nothing more is said of it."""
SCALARS = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text", "null": "null"}
Makes = Callable[[Mapping[str, Any], str | None], bool]
"""Whether a node with a ``_target_`` may give an object of the named class; of no class where it is None."""


@dataclass(frozen=True)
class Kind:
    """A type as far as it matters for a config.

    Attributes:
        form: ``any``; a key of ``SCALARS``; ``path``; ``literal``, one of ``values``; ``union`` of ``inner``; ``many``
            of ``inner[0]``, or of whatever there is; ``fixed``, one of each of ``inner``; ``mapping``; ``object`` of
            the class with the dotted name ``values[0]``; ``name``, which stands for what ``refers`` returns.
        inner: kinds of its parts.
        values: what a literal or an object is.
        refers: finds out what a name stands for, which may mean to read another file.
    """

    form: str
    inner: tuple[Kind, ...] = ()
    values: tuple[Any, ...] = ()
    refers: Callable[[], Kind] | None = field(default=None, compare=False)


ANY = Kind("any")
NULL = Kind("null")


def union(*inner: Kind) -> Kind:
    """Return the kind of what one of several takes."""
    return Kind("union", inner)


def settled(kind: Kind) -> Kind:
    """Return what a kind is once its name is looked up."""
    while kind.refers is not None:
        kind = kind.refers()
    return kind


def flat(kind: Kind) -> Iterator[Kind]:
    """Give the settled kinds that a union is made of, or the kind itself."""
    kind = settled(kind)
    if kind.form == "union":
        for inner in kind.inner:
            yield from flat(inner)
    else:
        yield kind


def literals(kind: Kind) -> list[Any]:
    """Return the values that literals in a kind name."""
    return [value for part in flat(kind) if part.form == "literal" for value in part.values]


def shown(value: Any) -> str:
    """Return a value as it is typed in a config."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return str(value["_target_"]) if "_target_" in value else "{" + ", ".join(map(str, value)) + "}"
    return "[" + ",".join(map(shown, value)) + "]" if isinstance(value, list | tuple) else str(value)


def describe(kind: Kind) -> str:
    """Return the values that a kind takes, in words."""
    chosen = literals(kind)
    words = [f"one of {', '.join(dict.fromkeys(map(shown, chosen)))}"] if chosen else []
    parts = [part for part in flat(kind) if part.form != "literal"]
    usable = [p for p in parts if not (p.form == "object" and p.values[0].endswith(".Tensor"))] or parts
    return " or ".join(dict.fromkeys([*words, *map(_words, sorted(usable, key=lambda p: p.form == "null"))]))


def _words(kind: Kind) -> str:
    if kind.form == "fixed":
        return f"a list of {len(kind.inner)} values"
    if kind.form == "object":
        return f"a node with the _target_ of a {kind.values[0].rpartition('.')[2]}"
    return {**SCALARS, "many": "a list", "mapping": "a mapping", "path": "a path"}.get(kind.form, "anything")


def accepts(kind: Kind, value: Any, makes: Makes) -> bool:
    """Whether a plain config value can be an argument of a kind; in doubt it can."""
    if value is UNKNOWN or kind.form == "any":
        return True
    if kind.form == "union":  # in their order: a name that need not be looked up is not
        return any(accepts(part, value, makes) for part in kind.inner)
    kind = settled(kind)
    form = kind.form
    if form in ("any", "union"):
        return accepts(kind, value, makes)
    if form == "literal":
        return any(value == allowed and type(value) is type(allowed) for allowed in kind.values)
    if isinstance(value, Mapping) and "_target_" in value:
        return form in ("many", "fixed", "mapping") or makes(value, kind.values[0] if form == "object" else None)
    if form == "mapping":
        return isinstance(value, Mapping)
    if form in ("many", "fixed"):
        return _accepts_many(kind, value, makes)
    if form == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    types = {"int": int, "bool": bool, "str": str, "path": str, "null": type(None)}
    return form in types and type(value) is types[form]


def _accepts_many(kind: Kind, value: Any, makes: Makes) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if kind.form == "fixed":
        return len(value) == len(kind.inner) and all(
            accepts(k, v, makes) for k, v in zip(kind.inner, value, strict=True)
        )
    return all(accepts(inner, v, makes) for inner in kind.inner for v in value)
