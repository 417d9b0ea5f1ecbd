"""Compares config nodes with the signatures that they name: unknown, missing and wrongly typed arguments."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

RESERVED = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
BASIC = {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "null"}
UNKNOWN = object()
"""Stands for a value that is wrong or missing already, so that nothing more is said of it."""


def near(word: str, known: Collection[str]) -> str:
    """Return ``did you mean ...?``, or what there is to choose from."""
    found = difflib.get_close_matches(word, list(known), 1, 0.6)
    if found:
        return f"did you mean {found[0]}?"
    listed = sorted(known)
    return f"choose one of {', '.join(listed[:12])}{', …' if len(listed) > 12 else ''}" if listed else "remove it"


def shown(value: Any) -> str:
    """Return a value as it is typed in a config."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return str(value["_target_"]) if "_target_" in value else "{" + ", ".join(map(str, value)) + "}"
    return "[" + ",".join(map(shown, value)) + "]" if isinstance(value, list | tuple) else str(value)


def describe(hint: Any) -> str:
    """Return the values that a type allows, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint in BASIC:
        return BASIC[hint]
    if origin in (typing.Union, types.UnionType):
        if _literals(hint):
            rest = [describe(h) for h in inner if not _literals(h)]
            return " or ".join([f"one of {', '.join(dict.fromkeys(map(shown, _literals(hint))))}", *rest])
        usable = [h for h in inner if getattr(h, "__name__", "") != "Tensor"]
        return " or ".join(dict.fromkeys(describe(h) for h in sorted(usable, key=lambda h: h is type(None))))
    if origin is Literal:
        return f"one of {', '.join(map(shown, inner))}"
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} values"
    if origin in (list, tuple, set) or isinstance(origin, type) and issubclass(origin, Sequence):
        return "a list"
    if isinstance(hint, type):
        return "a path" if issubclass(hint, Path) else f"a node with the _target_ of a {hint.__name__}"
    return str(hint)


def accepts(hint: Any, value: Any) -> bool:
    """Whether a plain config value can be an argument of this type; in doubt it can."""
    if value is UNKNOWN or hint is Any:
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(accepts(h, value) for h in inner)
    if origin is typing.Annotated:
        return accepts(inner[0], value)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in inner)
    if isinstance(value, Mapping) and "_target_" in value:
        return _makes(hint if origin is None else origin, value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint in (int, bool, str, type(None)):
        return type(value) is hint
    if origin is not None:
        return _accepts_many(origin, inner, value)
    if isinstance(hint, type) and hint is not object:
        if issubclass(hint, Path):
            return isinstance(value, str)
        if hint in (list, tuple, dict, Sequence, Mapping):
            return _accepts_many(hint, (), value)
        return False  # an object, and the value is none
    return True


def _accepts_many(origin: Any, inner: tuple[Any, ...], value: Any) -> bool:
    if not isinstance(origin, type):
        return True
    if issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if origin is type or not issubclass(origin, typing.Iterable):
        return True
    if not isinstance(value, list | tuple):
        return False
    if origin is tuple and inner and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(accepts, inner, value))
    return not inner or all(accepts(inner[0], v) for v in value)


def _makes(hint: Any, node: Mapping[str, Any]) -> bool:
    """Whether the target of a node gives an object of a type; functions and whatever is not certain do."""
    made = _target(node)
    if not isinstance(hint, type) or not isinstance(made, type) or node.get("_partial_"):
        return True
    return hint is object or getattr(hint, "_is_protocol", False) or issubclass(made, hint)


def _target(node: Mapping[str, Any]) -> Any:
    try:
        return located(node["_target_"])
    except ImportError:  # said of the node itself
        return None


def parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of something that can be called; none where Python does not know them."""
    try:
        return inspect.signature(target).parameters
    except (ValueError, TypeError):
        return {}


def hints(target: Any) -> dict[str, Any]:
    """Return the types of the parameters, as far as they can be found."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except Exception:  # annotations for type checkers only
        return {}


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
        target = located(name)
    except ImportError as error:
        yield f"{key}._target_={name}: {error}"
        return
    if not callable(target):
        yield f"{key}._target_={name}: is no class or function; name one"
        return
    known, types_ = parameters(target), hints(target)
    if not known:
        return
    anything = any(p.kind is p.VAR_KEYWORD for p in known.values())
    for argument in (k for k in node if k not in RESERVED and k not in own):
        value = node[argument]
        if argument in given:
            yield f"{key}.{argument}={shown(value)}: distill sets it itself; remove it"
        elif argument not in known:
            if not anything:
                left = [k for k in known if k not in given]
                yield f"{key}.{argument}={shown(value)}: {name} has no such argument; {near(argument, left)}"
        elif not accepts(types_.get(argument, Any), value):
            better = difflib.get_close_matches(str(value), map(str, _literals(types_[argument])), 1)
            fix = f"is no choice; did you mean {better[0]}?" if better else f"must be {describe(types_[argument])}"
            yield f"{key}.{argument}={shown(value)}: {fix}"
    if not node.get("_partial_"):
        for argument, p in known.items():
            required = p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            if required and argument not in node and argument not in given:
                yield f"{key}.{argument}: missing; {name} needs it: set {key}.{argument}=..."


def _literals(hint: Any) -> list[Any]:
    if typing.get_origin(hint) is Literal:
        return list(typing.get_args(hint))
    return [v for h in typing.get_args(hint) for v in _literals(h)]


def located(name: Any) -> Any:
    """Return what a dotted name stands for.

    Raises:
        ImportError: says which part of the name is wrong and the nearest that is right.
    """
    parts = str(name).split(".")
    if not all(part.isidentifier() for part in parts):
        raise ImportError("is no dotted name such as package.module.Class")
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
                raise ImportError(_no_such(".".join(parts[:i]), part, found))
            found = getattr(found, part)
        return found
    raise ImportError(f"there is no module {parts[0]}; correct the name, or put its folder on PYTHONPATH")


def _no_such(path: str, part: str, holder: Any) -> str:
    names = [n for n in dir(holder) if not n.startswith("_")]
    if hasattr(holder, "__path__"):
        names += [module.name for module in pkgutil.iter_modules(holder.__path__)]
    found = difflib.get_close_matches(part, names, 1)
    return f"{path} has no {part}; " + (f"did you mean {path}.{found[0]}?" if found else "correct the name")
