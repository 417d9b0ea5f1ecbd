"""Resolves a config leaf by leaf, so that one bad interpolation or missing value does not hide the others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from distill.config import Config
from distill.kinds import UNKNOWN


def resolve(cfg: Mapping[str, Any]) -> tuple[Config, list[str], set[str]]:
    """Return the config with interpolations replaced, what cannot be replaced, and where another node is repeated.

    Returns:
        Plain dict in which a missing or unresolvable value is ``UNKNOWN``; one sentence for each of those; keys whose
        value is an interpolation of a whole node, which is checked where it stands.
    """
    found: list[str] = []
    repeated: set[str] = set()
    node = OmegaConf.create(dict(cfg))
    return _plain(node, node, "", found, repeated), found, repeated


def _plain(root: DictConfig, node: Any, path: str, found: list[str], repeated: set[str]) -> Any:
    if not isinstance(node, DictConfig | ListConfig):
        return node
    keys: Any = list(node.keys()) if isinstance(node, DictConfig) else range(len(node))
    values = {}
    for key in keys:
        where = f"{path}.{key}" if path else str(key)
        if isinstance(node, ListConfig):
            where = f"{path}[{key}]"
        values[key] = _value(root, node, key, where, found, repeated)
    return values if isinstance(node, DictConfig) else list(values.values())


def _value(root: DictConfig, node: Any, key: Any, where: str, found: list[str], repeated: set[str]) -> Any:
    if OmegaConf.is_missing(node, key):
        found.append(f"{where}: required; set it: {where}=...")
        return UNKNOWN
    try:
        value = node[key]
    except InterpolationToMissingValueError:
        return UNKNOWN  # said where it is missing
    except OmegaConfBaseException as error:
        found.append(_nowhere(root, node, key, where, error))
        return UNKNOWN
    if OmegaConf.is_interpolation(node, key) and OmegaConf.is_config(value):
        repeated.add(where)
        return _plain(root, value, where, [], set())
    return _plain(root, value, where, found, repeated)


def _nowhere(root: DictConfig, node: Any, key: Any, where: str, error: Exception) -> str:
    raw = node._get_node(key)._value()
    inner = raw[raw.find("${") + 2 : raw.rfind("}")]
    reason = str(error).splitlines()[0]
    if ":" in inner:
        return f"{where}={raw}: cannot be resolved ({reason}); correct it"
    every = list(_paths(OmegaConf.to_container(root, resolve=False), ""))
    group = inner.partition(".")[0]
    depth = inner.count(".")
    close = difflib.get_close_matches(inner, [p for p in every if p.count(".") == depth], 1, 0.75)
    inside = [p for p in every if p.startswith(f"{group}.") and p.count(".") == 1]
    hint = f"did you mean ${{{close[0]}}}?" if close else f"{group} has {', '.join(inside) or 'nothing'}"
    fix = "; choose another, or set a plain value" if not close else ""
    return f"{where}={raw}: there is no {inner}; {hint}{fix}"


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            where = f"{path}.{key}" if path else str(key)
            yield where
            yield from _paths(below, where)


def taken(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Give each key whose value is taken from another key, ``${other}``, with that one."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from taken(below, f"{path}.{key}" if path else str(key))
    elif isinstance(value, str) and (found := re.fullmatch(r"\$\{([\w.]+)\}", value)):
        yield path, found[1]


def without(config: Any, keys: set[str], path: str = "") -> Any:
    """Return a config with ``UNKNOWN`` in the place of the values of some keys."""
    if path in keys:
        return UNKNOWN
    if not isinstance(config, Mapping):
        return config
    return {key: without(below, keys, f"{path}.{key}" if path else str(key)) for key, below in config.items()}
