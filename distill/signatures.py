"""Compares config nodes with the signatures that they name: unknown, missing and wrongly typed arguments."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

from distill import imported, reading
from distill.config import Root
from distill.kinds import Kind, accepts, describe, literals, shown
from distill.packages import Missing, Module, Unreadable
from distill.reading import Signature, related
from distill.source import Defined, find

RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def near(word: str, known: Collection[str]) -> str:
    """Return ``did you mean ...?``, or what there is to choose from."""
    found = difflib.get_close_matches(word, list(known), 1, 0.6)
    if found:
        return f"did you mean {found[0]}?"
    listed = sorted(known)
    return f"choose one of {', '.join(listed[:12])}{', …' if len(listed) > 12 else ''}" if listed else "remove it"


@cache
def root() -> dict[str, Kind]:
    """Return the kinds of the scalars and groups of a config."""
    return {name: imported.kind(hint) for name, hint in typing.get_type_hints(Root).items()}


def signature(name: Any) -> Signature | None:
    """Return the signature of what a dotted name stands for, from source where that says it; None where nobody knows.

    Raises:
        ImportError: says which part of the name is wrong and the nearest that is right.
    """
    text = str(name)
    if not all(part.isidentifier() for part in text.split(".")):
        raise ImportError("is no dotted name such as package.module.Class")
    try:
        found = find(text)
        if isinstance(found, Module):
            raise ImportError("is no class or function; name one")
        return reading.signature(found)
    except Unreadable:
        return imported_signature(text)
    except Missing as error:
        raise ImportError(_no_such(error)) from error


def imported_signature(name: str) -> Signature | None:
    """Return the signature of what a dotted name stands for, its module imported; None where nobody knows it.

    Raises:
        ImportError: says which part of the name is wrong, or why its module cannot be imported.
    """
    try:
        target = imported.located(name)
    except Missing as error:
        raise ImportError(_no_such(error)) from error
    if not callable(target):
        raise ImportError("is no class or function; name one")
    return imported.signature(target)


def _no_such(error: Missing) -> str:
    if not error.holder:
        return f"there is no module {error.name}; correct the name, or put its folder on PYTHONPATH"
    found = difflib.get_close_matches(error.name, error.known, 1)
    fix = f"did you mean {error.holder}.{found[0]}?" if found else "correct the name"
    return f"{error.holder} has no {error.name}; {fix}"


def makes(node: Mapping[str, Any], wanted: str | None) -> bool:
    """Whether the target of a node may give an object of the class ``wanted``; functions and what is uncertain may."""
    if node.get("_partial_"):
        return True
    try:
        found = find(str(node["_target_"]))
        if not isinstance(found, Defined) or not reading.is_class(found):
            return True
        made = found.name
    except Missing:  # said of the node itself
        return True
    except Unreadable:
        try:
            target = imported.located(str(node["_target_"]))
        except (Missing, ImportError):
            return True
        if not isinstance(target, type):
            return True
        made = imported.name_of(target)
    return wanted is not None and related(made, wanted)


def mistakes(
    node: Mapping[str, Any], key: str, own: Collection[str] = (), given: Collection[str] = ()
) -> Iterator[str]:
    """Give one sentence for each way in which a node does not fit the signature of its ``_target_``.

    Args:
        node: plain dict with ``_target_``; interpolations resolved.
        key: where it stands in the config.
        own: keys of the node that are not arguments.
        given: arguments that the program adds itself.
    """
    name = node["_target_"]
    try:
        known = signature(name)
    except ImportError as error:
        yield f"{key}._target_={name}: {error}"
        return
    if known is None:
        return
    parameters = known.parameters
    for argument in (k for k in node if k not in RESERVED and k not in own):
        value = node[argument]
        if argument in given:
            yield f"{key}.{argument}={shown(value)}: distill sets it itself; remove it"
        elif argument not in parameters:
            if not known.anything:
                left = [k for k in parameters if k not in given]
                yield f"{key}.{argument}={shown(value)}: {name} has no such argument; {near(argument, left)}"
        elif not accepts(parameters[argument].kind, value, makes):
            kind = parameters[argument].kind
            better = difflib.get_close_matches(str(value), map(str, literals(kind)), 1)
            fix = f"is no choice; did you mean {better[0]}?" if better else f"must be {describe(kind)}"
            yield f"{key}.{argument}={shown(value)}: {fix}"
    if not node.get("_partial_"):
        for argument, parameter in parameters.items():
            if parameter.required and argument not in node and argument not in given:
                yield f"{key}.{argument}: missing; {name} needs it: set {key}.{argument}=..."
