"""The control of a moving temperature: a constant temperature, and the weight schedule that T^2 hides, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from distill.config import ConfigError, compose
from distill.tables.spec import Matched

SQUARED = "distill.schedules.squared.Squared"


@cache
def control(overrides: tuple[str, ...], matched: Matched) -> tuple[str, ...]:
    """Return the overrides that turn a row into its control.

    Every term that has a temperature and multiplies by T^2 gets the constant one, leaves T^2 out, and has the weight
    w T(t)^2 instead, so that at every moment it counts as much as the term it is the control of.

    Args:
        overrides: of the row, with those of table and column before them.
        matched: key of the row, and the constant temperature.

    Raises:
        ConfigError: when the row does not compose, or no term of it has a temperature and T^2.
    """
    try:
        with _composition_of_its_own():
            config = compose(overrides)
    except Exception as error:  # whatever Hydra raises; `check` of the row itself says it in full
        reason = str(error).splitlines()[0]
        raise ConfigError([f"matched: of={matched.of}: the row does not compose ({reason}); correct it"]) from error
    found: list[str] = []
    for name, node in config["loss"].items():
        if isinstance(node, Mapping) and "temperature" in node and node.get("t2") is True:
            weight = f"{{_target_:{SQUARED},of:{written(node['temperature'])},factor:{written(node['weight'])}}}"
            term = f"loss.{name}"
            found += [f"{term}.temperature={matched.temperature}", f"{term}.t2=false", f"{term}.weight={weight}"]
    if not found:
        terms = ",".join(config["loss"])
        known = "no term has both temperature and t2=true"
        raise ConfigError([f"matched: of={matched.of}: {known} in its loss=[{terms}]; choose another row"])
    return tuple(found)


@contextmanager
def _composition_of_its_own() -> Iterator[None]:
    """Set aside the composition that is under way, for Hydra knows one at a time."""
    under_way = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = under_way


def written(value: Any) -> str:
    """Return a value of a config, a node of it too, as Hydra's grammar writes it."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{written(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
