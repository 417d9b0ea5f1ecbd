"""Finds what a dotted name stands for by reading source files; imports nothing, so it knows no more than they say."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from distill.packages import Missing, Module, Unreadable, absolute, module, names_in, submodule


@dataclass(frozen=True)
class Defined:
    """A class, function or value in a module; ``name`` is dotted and the place where it is written."""

    module: Module
    node: ast.stmt
    name: str


Found = Module | Defined


def find(name: str) -> Found:
    """Return what a dotted name stands for.

    Raises:
        Missing: when a part does not exist.
        Unreadable: when only importing can tell.
    """
    first, *rest = name.split(".")
    found: Found = module(first)
    for i, part in enumerate(rest, 1):
        # on the way to something a submodule is meant, and found without reading what holds it
        inner = submodule(found, part) if isinstance(found, Module) and i < len(rest) else None
        found = inner or member(found, part)
    return found


def member(holder: Found, part: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Found:
    """Return what a module or class calls ``part``.

    Raises:
        Missing: when it has no such name.
        Unreadable: when only importing can tell.
    """
    if isinstance(holder, Defined):
        raise Unreadable(f"{holder.name}.{part}")  # static methods and the like
    step = (holder.name, part)
    if part in holder.bound.names and step not in seen:
        return _follow(holder, part, seen | {step})
    inner = submodule(holder, part)
    if inner is not None:
        return inner
    for star in () if step in seen else holder.bound.stars:
        try:
            return member(module(star), part, seen | {step})
        except Missing:
            continue
    if "__getattr__" in holder.bound.names or step in seen:
        raise Unreadable(f"{holder.name}.{part}")
    raise Missing(holder.name, part, names_in(holder))


def _follow(holder: Module, part: str, seen: frozenset[tuple[str, str]]) -> Found:
    statement = holder.bound.names[part]
    if isinstance(statement, ast.Import):
        alias = next(a for a in statement.names if (a.asname or a.name.partition(".")[0]) == part)
        return module(alias.name if alias.asname else part)
    if isinstance(statement, ast.ImportFrom):
        alias = next(a for a in statement.names if (a.asname or a.name) == part)
        return member(module(absolute(holder, statement)), alias.name, seen)
    value = getattr(statement, "value", None)
    if isinstance(value, ast.Name | ast.Attribute):
        return lookup(holder, value, seen)
    return Defined(holder, statement, f"{holder.name}.{part}")


def lookup(holder: Module, expression: ast.expr, seen: frozenset[tuple[str, str]] = frozenset()) -> Found:
    """Return what a name, dotted or not, stands for inside a module."""
    if isinstance(expression, ast.Attribute):
        return member(lookup(holder, expression.value, seen), expression.attr, seen)
    if isinstance(expression, ast.Name):
        try:
            return member(holder, expression.id, seen)
        except Missing as error:  # a name of Python's own
            raise Unreadable(expression.id) from error
    raise Unreadable(ast.unparse(expression))


def dotted(holder: Module, expression: ast.expr) -> str:
    """Return a name in full as imports write it, such as ``typing.Optional``; no other file is read for it."""
    if isinstance(expression, ast.Attribute):
        return f"{dotted(holder, expression.value)}.{expression.attr}"
    if not isinstance(expression, ast.Name):
        return ""
    statement = holder.bound.names.get(expression.id)
    if isinstance(statement, ast.Import):
        alias = next(a for a in statement.names if (a.asname or a.name.partition(".")[0]) == expression.id)
        return alias.name if alias.asname else expression.id
    if isinstance(statement, ast.ImportFrom):
        alias = next(a for a in statement.names if (a.asname or a.name) == expression.id)
        return f"{absolute(holder, statement)}.{alias.name}"
    return f"builtins.{expression.id}" if statement is None else f"{holder.name}.{expression.id}"
