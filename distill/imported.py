"""What source does not say of a target: found by importing it, in the same form as distill.reading gives."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Literal

from distill.kinds import ANY, NULL, Kind, union
from distill.packages import Missing
from distill.reading import Parameter, Signature
from distill.source import Defined, find

SCALARS = {float: "float", int: "int", bool: "bool", str: "str"}


def located(name: str) -> Any:
    """Return what a dotted name stands for, its module imported.

    Raises:
        Missing: when a part of the name does not exist.
        ImportError: says why its module cannot be imported.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise ImportError(f"needs the module {error.name}, which is not installed") from error
            continue
        except Exception as error:
            reason = " ".join(str(error).split())[:160]
            raise ImportError(f"cannot be imported ({type(error).__name__}: {reason})") from error
        for i, part in enumerate(parts[end:], end):
            if not hasattr(found, part):
                raise Missing(".".join(parts[:i]), part, [n for n in dir(found) if not n.startswith("_")])
            found = getattr(found, part)
        return found
    raise Missing("", parts[0], [])


def signature(target: Any) -> Signature | None:
    """Return the signature of something that can be called; None where Python does not know it."""
    try:
        known = inspect.signature(target).parameters
    except (ValueError, TypeError):
        return None
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # annotations for type checkers only
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = {
        name: Parameter(kind(hints.get(name, Any)), p.default is p.empty)
        for name, p in known.items()
        if p.kind in named
    }
    return Signature(parameters, any(p.kind is p.VAR_KEYWORD for p in known.values()))


def kind(hint: Any) -> Kind:
    """Return the kind of a type."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return union(*map(kind, inner))
    if origin is typing.Annotated:
        return kind(inner[0])
    if origin is Literal:
        return Kind("literal", values=inner)
    if origin is tuple and inner and Ellipsis not in inner:
        return Kind("fixed", tuple(map(kind, inner)))
    if hint in (None, type(None)):
        return NULL
    base = hint if origin is None else origin
    if not isinstance(base, type) or base is object:
        return ANY
    if base in SCALARS:
        return Kind(SCALARS[base])
    if issubclass(base, Enum):
        return Kind("literal", values=tuple(choice.value for choice in base))
    if issubclass(base, PurePath):
        return Kind("path")
    if issubclass(base, Mapping):
        return Kind("mapping")
    if base.__module__ in ("builtins", "collections.abc"):
        several = base is not type and issubclass(base, Iterable) and base is not bytes
        return Kind("many", tuple(map(kind, inner[:1]))) if several else ANY
    return ANY if base.__module__ == "typing" else Kind("object", values=(name_of(base),))


def name_of(made: type) -> str:
    """Return the dotted name of the place where a class is written, as reading its source gives it."""
    name = f"{made.__module__}.{made.__qualname__}"
    try:
        found = find(name)
    except LookupError:
        return name
    return found.name if isinstance(found, Defined) else name
