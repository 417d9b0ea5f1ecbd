"""Sweep overrides as distributions, and drawn values back as overrides."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from distill.search.space import space, words

optuna = pytest.importorskip("optuna", reason="the extra distill[optuna] is not installed")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402


def _space(*texts: str) -> tuple[dict[str, object], list[str]]:
    return space(OverridesParser.create().parse_overrides(list(texts)))  # type: ignore[return-value]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a=interval(0,1.5)", FloatDistribution(0.0, 1.5)),
        ("a=interval(1,5)", FloatDistribution(1.0, 5.0)),  # Hydra reads both ends as floats, unless told otherwise
        ("a=int(interval(1,5))", IntDistribution(1, 5)),
        ("a=tag(log,interval(1e-3,1))", FloatDistribution(1e-3, 1.0, log=True)),
        ("a=tag(log,int(interval(4,64)))", IntDistribution(4, 64, log=True)),
        ("a=range(8,33,6)", IntDistribution(8, 32, step=6)),
        ("a=range(8,32,6)", IntDistribution(8, 26, step=6)),  # the end is left out, as in a grid
        ("a=range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=choice(resnet8,resnet14)", CategoricalDistribution(["resnet8", "resnet14"])),
        ("a=1,2,2.5", CategoricalDistribution([1, 2, 2.5])),
        ("a=choice([ce,kd],[ce,dkd])", CategoricalDistribution(["[ce,kd]", "[ce,dkd]"])),
        ("a=true,null", CategoricalDistribution([True, "null"])),
    ],
)
def test_space__of_each_form(text: str, expected: object) -> None:
    assert _space(text) == ({"a": expected}, [])


def test_space__the_last_override_of_a_key_counts() -> None:
    swept, fixed = _space("a=interval(0,1)", "b=interval(0,1)", "a=0.5", "b=interval(0,2)", "c=x")
    assert swept == {"b": FloatDistribution(0.0, 2.0)}
    assert fixed == ["a=0.5", "c=x"]


@pytest.mark.parametrize(
    "text, why",
    [
        ("a=tag(log,interval(0.0,1.0))", "low"),
        ("a=interval(2,1)", "low"),
        ("a=tag(log,range(1,9))", "even steps"),
        ("a=range(3,3)", "no value"),
        ("a=shuffle(1,2)", "leave out shuffle"),
    ],
)
def test_space__refuses(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as error:
        _space(text)
    assert str(error.value).startswith(f"{text}: ")


def test_words__parse_to_the_values_drawn() -> None:
    drawn = {"a": 1e-06, "b": 3, "c": True, "d": "[ce,kd]", "e": 0.1 + 0.2}
    parsed = OverridesParser.create().parse_overrides(words(drawn))
    assert [one.value() for one in parsed] == [1e-06, 3, True, ["ce", "kd"], 0.1 + 0.2]
