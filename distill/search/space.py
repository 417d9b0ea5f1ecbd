"""Search space: overrides in Hydra's sweep syntax as optuna's distributions, and drawn values back as overrides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def space(overrides: Iterable[Override]) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Return the distribution of each swept key, and the other overrides; of one key the last override counts.

    ``interval(a,b)`` holds both ends, ``int(interval(a,b))`` whole numbers only; ``range(a,b,step)`` leaves
    out ``b`` as it does in a grid; ``tag(log,...)`` draws the logarithm evenly.

    Raises:
        ValueError: names the override that stands for no distribution.
    """
    last = {override.get_key_element(): override for override in overrides}
    swept = {key: _distribution(one) for key, one in last.items() if one.is_sweep_override()}
    return swept, [str(one.input_line) for one in last.values() if not one.is_sweep_override()]


def _distribution(override: Override) -> BaseDistribution:
    value: Any = override._value
    try:
        if getattr(value, "shuffle", False):
            raise ValueError("a search draws at random anyway; leave out shuffle")
        if isinstance(value, IntervalSweep):
            return _interval(value)
        if isinstance(value, RangeSweep):
            return _range(value)
        return _choice(override)
    except ValueError as error:
        raise ValueError(f"{override.input_line}: {error}") from error


def _interval(value: IntervalSweep) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if value.start is None or value.end is None:
        raise ValueError("give both ends")
    log = "log" in value.tags
    if isinstance(value.start, int) and isinstance(value.end, int):
        return IntDistribution(value.start, value.end, log=log)
    return FloatDistribution(float(value.start), float(value.end), log=log)


def _range(value: RangeSweep) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if "log" in value.tags:
        raise ValueError("a range has even steps; for a logarithm write tag(log,interval(a,b))")
    steps = list(value.range())
    if not steps:
        raise ValueError("stands for no value")
    low, high = min(steps), max(steps)
    if all(isinstance(step, int) for step in steps) and isinstance(value.step, int):
        return IntDistribution(low, high, step=abs(value.step))
    return FloatDistribution(float(low), float(high), step=abs(float(value.step)))


def _choice(override: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    choices = list(dict.fromkeys(override.sweep_iterator(transformer=Transformer.encode)))
    if not choices:
        raise ValueError("stands for no value")
    return CategoricalDistribution(choices)  # type: ignore[arg-type]


def words(params: dict[str, Any]) -> list[str]:
    """Return drawn values as overrides."""
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in params.items()]
