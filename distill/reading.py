"""Reads signatures from source: parameters of functions and classes, dataclasses and inherited ones included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from distill.annotations import kind
from distill.kinds import Kind
from distill.packages import Missing, Module, Unreadable
from distill.source import Defined, dotted, find, lookup

KEEPS = (
    "functools.",
    "contextlib.contextmanager",
    "abc.abstractmethod",
    "typing.override",
    "typing_extensions.override",
)
"""Decorators that leave a signature as it is."""
ROOTS = {"builtins.object", "abc.ABC", "typing.Generic", "typing.Protocol", "typing_extensions.Protocol"}
"""Base classes without parameters; those in brackets are written ``Generic[T]``."""


@dataclass(frozen=True)
class Parameter:
    """A parameter that can be given by name; ``required`` where it has no default."""

    kind: Kind
    required: bool


@dataclass(frozen=True)
class Signature:
    """Parameters by name; ``anything`` where others are taken too."""

    parameters: dict[str, Parameter]
    anything: bool = False


def signature(target: Defined) -> Signature:
    """Return the signature of a function or class.

    Raises:
        Unreadable: when only importing can tell.
    """
    if isinstance(target.node, ast.FunctionDef):
        return _function(target.module, target.node)
    if is_class(target):
        return _class(target)
    raise Unreadable(target.name)


def _function(module: Module, node: ast.FunctionDef, method: bool = False) -> Signature:
    for decorator in node.decorator_list:
        if not _keeps(module, decorator):
            raise Unreadable(f"{module.name}.{node.name}")
    spec = node.args
    both = [*spec.posonlyargs, *spec.args]
    bare = len(both) - len(spec.defaults)
    given = [(one, i < bare) for i, one in enumerate(both)][method:]
    given = [pair for pair in given if pair[0] not in spec.posonlyargs]
    given += [(one, default is None) for one, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    parameters = {one.arg: Parameter(kind(module, one.annotation), required) for one, required in given}
    return Signature(parameters, spec.kwarg is not None)


def _keeps(module: Module, decorator: ast.expr) -> bool:
    """Whether a decorator gives a function of the same signature: a known one, or one made with ``functools.wraps``."""
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    if dotted(module, name).startswith(KEEPS):
        return True
    try:
        made = lookup(module, name)
    except LookupError:
        return False
    if not isinstance(made, Defined) or not isinstance(made.node, ast.FunctionDef):
        return False
    inner = [part for part in ast.walk(made.node) if isinstance(part, ast.FunctionDef)]
    wraps = (d.func for part in inner for d in part.decorator_list if isinstance(d, ast.Call))
    return any(dotted(made.module, name) == "functools.wraps" for name in wraps)


def _class(target: Defined) -> Signature:
    for one in lineage(target):
        node = _body(one)
        if any(
            word.arg == "metaclass" and not dotted(one.module, word.value).startswith("abc.") for word in node.keywords
        ):
            raise Unreadable(one.name)
        own = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
        if "__new__" in own:
            raise Unreadable(one.name)
        if "__init__" in own:
            return _function(one.module, own["__init__"], method=True)
        flags = _dataclass(one)
        if flags is not None and flags.get("init", True):
            return Signature({name: p for part in reversed(list(lineage(one))) for name, p in _fields(part)})
    return Signature({})


def lineage(target: Defined) -> Iterator[Defined]:
    """Give a class and those that it inherits from, in the order in which Python looks into them.

    Raises:
        Unreadable: once it comes to a base that cannot be read.
    """
    yield target
    bases: list[Defined] = []
    for base in _body(target).bases:
        name = base.value if isinstance(base, ast.Subscript) else base
        if dotted(target.module, name) in ROOTS:
            continue
        try:
            found = lookup(target.module, name)
        except Missing as error:
            raise Unreadable(target.name) from error
        if not isinstance(found, Defined) or not isinstance(found.node, ast.ClassDef):
            raise Unreadable(target.name)
        bases.append(found)
    orders = [*(list(lineage(base)) for base in bases), bases]
    while orders := [order for order in orders if order]:
        firsts = [order[0] for order in orders if not any(order[0] in other[1:] for other in orders)]
        if not firsts:  # Python refuses such bases
            raise Unreadable(target.name)
        yield firsts[0]
        orders = [[one for one in order if one != firsts[0]] for order in orders]


def is_class(target: Defined) -> bool:
    """Whether a name stands for a class."""
    return isinstance(target.node, ast.ClassDef)


def is_protocol(target: Defined) -> bool:
    """Whether a class only says what others must be able to do."""
    names = (base.value if isinstance(base, ast.Subscript) else base for base in _body(target).bases)
    return any(dotted(target.module, name).endswith(".Protocol") for name in names)


def _body(target: Defined) -> ast.ClassDef:
    if not isinstance(target.node, ast.ClassDef):
        raise Unreadable(target.name)
    return target.node


def _dataclass(target: Defined) -> dict[str, bool] | None:
    """Return the flags that a class is decorated with as a dataclass; None where it is none.

    Raises:
        Unreadable: when another decorator may change what the class takes.
    """
    flags = None
    for decorator in _body(target).decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        name = dotted(target.module, call.func if call else decorator)
        if name == "dataclasses.dataclass":
            flags = _flags(call)
        elif not name.startswith(("typing.", "typing_extensions.", "functools.total_ordering")):
            raise Unreadable(target.name)
    return flags


def _flags(call: ast.expr | None) -> dict[str, bool]:
    words = call.keywords if isinstance(call, ast.Call) else []
    return {word.arg or "": bool(word.value.value) for word in words if isinstance(word.value, ast.Constant)}


def _fields(target: Defined) -> Iterator[tuple[str, Parameter]]:
    if _dataclass(target) is None:
        return
    for part in _body(target).body:
        if not isinstance(part, ast.AnnAssign) or not isinstance(part.target, ast.Name):
            continue
        outer = part.annotation.value if isinstance(part.annotation, ast.Subscript) else part.annotation
        word = dotted(target.module, outer)
        if word in ("typing.ClassVar", "dataclasses.KW_ONLY"):
            continue
        annotation = part.annotation.slice if word == "dataclasses.InitVar" else part.annotation  # type: ignore[attr-defined]
        required = part.value is None
        if isinstance(part.value, ast.Call) and dotted(target.module, part.value.func) == "dataclasses.field":
            if not _flags(part.value).get("init", True):
                continue
            required = not {"default", "default_factory"} & {word.arg for word in part.value.keywords}
        yield part.target.id, Parameter(kind(target.module, annotation), required)


def related(made: str, wanted: str) -> bool:
    """Whether objects of one class, by its dotted name, are objects of another; True where source does not say."""
    try:
        target, base = find(made), find(wanted)
        if not isinstance(target, Defined) or not isinstance(base, Defined) or is_protocol(base):
            return True
        return any(one.name == base.name for one in lineage(target))
    except LookupError:
        return True
