"""Reads annotations in source as kinds of values, without importing what they name."""

from __future__ import annotations

import ast
from functools import partial

from distill.kinds import ANY, NULL, Kind, union
from distill.packages import Module
from distill.source import Defined, dotted, lookup

MANY = {
    "list", "List", "set", "Set", "frozenset", "FrozenSet", "tuple", "Tuple", "Sequence", "MutableSequence", "Iterable",
    "Collection", "Iterator", "AbstractSet",
}  # fmt: skip
MAPPINGS = {"dict", "Dict", "Mapping", "MutableMapping"}
TYPES = ("typing.", "typing_extensions.", "collections.abc.", "builtins.")
SCALARS = {"float": "float", "int": "int", "bool": "bool", "str": "str", "None": "null"}


def kind(module: Module, annotation: ast.expr | None) -> Kind:
    """Return the kind that an annotation in a module describes; names of other modules are looked up when needed."""
    match annotation:
        case ast.Constant(value=str() as text):
            try:
                return kind(module, ast.parse(text, mode="eval").body)
            except SyntaxError:
                return ANY
        case ast.Constant(value=None):
            return NULL
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return union(kind(module, left), kind(module, right))
        case ast.Subscript(value=outer, slice=inside):
            return _generic(module, outer, inside)
        case ast.Name() | ast.Attribute():
            return _named(module, annotation)
    return ANY


def _generic(module: Module, outer: ast.expr, inside: ast.expr) -> Kind:
    name = dotted(module, outer)
    word = name.rpartition(".")[2] if name.startswith(TYPES) else ""
    parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    ends = isinstance(parts[-1], ast.Constant) and parts[-1].value is Ellipsis
    if word == "Optional":
        return union(kind(module, inside), NULL)
    if word == "Union":
        return union(*(kind(module, part) for part in parts))
    if word == "Literal":
        return _literal(module, parts)
    if word in ("Annotated", "Final", "Required", "NotRequired"):
        return kind(module, parts[0])
    if word in ("tuple", "Tuple") and not ends:
        return Kind("fixed", tuple(kind(module, part) for part in parts))
    if word in MANY:
        return Kind("many", (kind(module, parts[0]),))
    if word in MAPPINGS:
        return Kind("mapping")
    return ANY if word else _named(module, outer)


def _literal(module: Module, parts: list[ast.expr]) -> Kind:
    try:
        return Kind("literal", values=tuple(ast.literal_eval(part) for part in parts))
    except ValueError:  # members of an Enum
        return ANY


def _named(module: Module, expression: ast.expr) -> Kind:
    name = dotted(module, expression)
    word = name.rpartition(".")[2]
    if name in ("pathlib.Path", "pathlib.PurePath"):
        return Kind("path")
    if not name.startswith(TYPES):
        return Kind("name", refers=partial(_looked_up, module, expression))
    if word in MANY:
        return Kind("many")
    if word in MAPPINGS:
        return Kind("mapping")
    return Kind(SCALARS[word]) if name.startswith("builtins.") and word in SCALARS else ANY


def _looked_up(module: Module, expression: ast.expr) -> Kind:
    try:
        return meant(lookup(module, expression))
    except LookupError:
        return ANY


def meant(found: object) -> Kind:
    """Return the kind of what a name in an annotation stands for: a class, or an alias of another type."""
    if not isinstance(found, Defined):
        return ANY
    if isinstance(found.node, ast.ClassDef):
        return Kind("object", values=(found.name,))
    value = getattr(found.node, "value", None)
    return kind(found.module, value) if isinstance(value, ast.Subscript | ast.BinOp | ast.Constant) else ANY
