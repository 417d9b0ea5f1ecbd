"""Schedules: values at the ends and between, and the sentence that refuses each mistake."""

import math

import pytest

from distill.schedules.base import Progress, Schedule, along, trajectory
from distill.schedules.constant import Constant
from distill.schedules.cosine import Cosine
from distill.schedules.exponential import Exponential
from distill.schedules.linear import Linear
from distill.schedules.piecewise import Piecewise
from distill.schedules.squared import Squared
from distill.schedules.stages import Stages
from distill.schedules.step import Step
from distill.schedules.warmup import Warmup


def at(schedule: Schedule, fraction: float) -> float:
    return schedule(Progress(fraction))


def test_constant__is_a_float_everywhere() -> None:
    assert trajectory(Constant(4), 5) == [4.0] * 5
    assert isinstance(at(Constant(4), 0.5), float)


def test_linear__five_to_one_over_five_epochs() -> None:
    assert trajectory(Linear(5, 1), 5) == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_linear__single_epoch_run_has_the_start() -> None:
    assert trajectory(Linear(5, 1), 1) == [5.0]


@pytest.mark.parametrize("kind", [Linear, Cosine, Exponential])
@pytest.mark.parametrize("start, end", [(5.0, 1.0), (0.1, 0.7), (3.0, 3.0)])
def test_ramps__exact_at_both_ends_and_monotone(kind: type, start: float, end: float) -> None:
    values = trajectory(kind(start, end))
    assert values[0] == start
    assert values[-1] == end
    signs = [b - a for a, b in zip(values, values[1:], strict=False)]
    assert all(s * (end - start) >= -1e-12 for s in signs)


@pytest.mark.parametrize("kind", [Linear, Cosine, Exponential])
def test_ramps__hold_before_begin_and_after_until(kind: type) -> None:
    ramp, whole = kind(5.0, 1.0, begin=0.2, until=0.6), kind(5.0, 1.0)
    assert [at(ramp, f) for f in (0.0, 0.1, 0.2)] == [5.0] * 3
    assert [at(ramp, f) for f in (0.6, 0.9, 1.0)] == [1.0] * 3
    assert at(ramp, 0.3) == pytest.approx(at(whole, 0.25))


def test_cosine__is_half_a_cosine() -> None:
    for f in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        assert at(Cosine(5, 1), f) == pytest.approx(1 + (5 - 1) * (1 + math.cos(math.pi * f)) / 2)


def test_exponential__has_a_constant_ratio() -> None:
    values = trajectory(Exponential(8, 1), 4)
    assert values == pytest.approx([8.0, 4.0, 2.0, 1.0])


def test_step__next_value_from_its_fraction_on() -> None:
    step = Step([5, 3, 1], at=[0.3, 0.6])
    assert [at(step, f) for f in (0.0, 0.29, 0.3, 0.59, 0.6, 1.0)] == [5, 5, 3, 3, 1, 1]
    # 11 epochs: fractions 0.3 and 0.6 fall on epochs 4 and 7 in spite of rounding
    assert trajectory(step, 11) == [5] * 3 + [3] * 3 + [1] * 5


def test_stages__next_value_after_its_epoch_whatever_the_length_of_the_run() -> None:
    stages = Stages([1.0, 0.5, 0.0], until=[2, 3])
    assert trajectory(stages, 5) == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert trajectory(stages, 3) == [1.0, 1.0, 0.5]
    assert Stages([0, 1], [30])(Progress(0.9, epoch=30, epochs=33)) == 0


@pytest.mark.parametrize("values, until", [([1.0], [3]), ([1.0, 0.0], []), ([1.0, 0.0, 1.0], [3])])
def test_stages__lengths(values: list[float], until: list[int]) -> None:
    with pytest.raises(ValueError, match="give one value more than epochs"):
        Stages(values, until)


@pytest.mark.parametrize("until", [[0, 3], [3, 3], [5, 2]])
def test_stages__order(until: list[int]) -> None:
    with pytest.raises(ValueError, match="must be increasing epochs, the first at least 1"):
        Stages([1.0, 0.5, 0.0], until)


def test_warmup__counts_epochs_from_one() -> None:
    assert trajectory(Warmup(2.0, epochs=4), 6) == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_warmup__does_not_depend_on_the_length_of_the_run() -> None:
    warmup = Warmup(1.0, epochs=20)
    assert warmup(Progress(0.0, epoch=1, epochs=240)) == warmup(Progress(0.0, epoch=1, epochs=2)) == 0.05


def test_piecewise__interpolates_and_holds() -> None:
    curve = Piecewise([[0.1, 2.0], [0.5, 4.0], [0.9, 0.0]])
    assert [at(curve, f) for f in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)] == pytest.approx([2, 2, 3, 4, 2, 0, 0])


def test_piecewise__one_point_is_a_constant() -> None:
    assert set(trajectory(Piecewise([[0.5, 3.0]]))) == {3.0}


def test_along__is_held_at_zero_and_one() -> None:
    assert [along(f, 0.2, 0.6) for f in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: Constant(math.nan), "value must be a finite number, got nan"),
        (lambda: Linear(math.inf, 1), "start must be a finite number, got inf"),
        (lambda: Linear(5, 1, begin=0.6, until=0.2), "begin=0.6, until=0.2: must be fractions"),
        (lambda: Cosine(5, 1, until=1.5), "until=1.5: must be fractions"),
        (lambda: Cosine(5, math.nan), "end must be a finite number"),
        (lambda: Exponential(5, 0), "end must be above 0, got 0"),
        (lambda: Exponential(-1, 2), "start must be above 0, got -1"),
        (lambda: Step([5, 1], at=[0.2, 0.4]), "values has 2 entries and at has 2"),
        (lambda: Step([5, 3, 1], at=[0.6, 0.3]), "must be increasing fractions"),
        (lambda: Step([5, 3], at=[1.5]), "must be increasing fractions"),
        (lambda: Step([5, 3], at=[0.0]), "each above 0"),
        (lambda: Step([5, math.inf], at=[0.5]), "values must be a finite number"),
        (lambda: Warmup(1.0, epochs=0), "epochs must be at least 1 in a warm-up, got 0"),
        (lambda: Warmup(math.nan, epochs=3), "value must be a finite number"),
        (lambda: Piecewise([]), "at least one pair"),
        (lambda: Piecewise([[0.0, 1.0, 2.0]]), "at least one pair"),
        (lambda: Piecewise([[0.5, 1.0], [0.5, 2.0]]), "must increase within"),
        (lambda: Piecewise([[-0.5, 1.0], [0.5, 2.0]]), "must increase within"),
        (lambda: Piecewise([[0.0, 1.0], [1.5, 2.0]]), "must increase within"),
        (lambda: Piecewise([[0.0, math.nan]]), "points must be a finite number"),
    ],
)  # fmt: skip
def test_constructors__refuse_in_one_sentence(make, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_squared__is_the_weight_that_a_moving_temperature_hides() -> None:
    weights = trajectory(Squared(Linear(5, 1), 0.9), 5)
    assert weights == pytest.approx([0.9 * t * t for t in (5, 4, 3, 2, 1)])
    assert trajectory(Squared(3.0), 2) == [9.0, 9.0]
    assert trajectory(Squared(2.0, Linear(0, 1)), 3) == pytest.approx([0, 2, 4])


@pytest.mark.parametrize("of, factor, name", [(math.nan, 1.0, "of"), (1.0, math.inf, "factor")])
def test_squared__refuses_what_is_not_finite(of: float, factor: float, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        Squared(of, factor)
