"""table.yaml: what it becomes, and every mistake in it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.commands.composing import Composer
from distill.config import ConfigError, compose, resolved
from distill.objective import Objective
from distill.schedules.base import Progress
from distill.tables import spec
from distill.tables.matched import control, written
from distill.tables.spec import Cell, Matched, replaced
from tests.tables.parts import YAML, declare


def test_load__lays_overrides_in_order(tmp_path: Path) -> None:
    table = declare(tmp_path / "small")
    assert table.name == "small"
    assert table.seeds == (0, 1)
    assert len(list(table)) == 2 * (3 * 2 - 1)
    assert Cell("matched", "wide", 0) not in set(table)
    assert table.overrides_of(Cell("kd", "wide", 1)) == [
        "trainer.max_epochs=3", "student.width=32", "loss.kd.weight=0.9", "optimizer.lr=0.2", "alone=false", "seed=1",
        "seeds=1",
    ]  # fmt: skip
    assert table.overrides_of(Cell("alone", "digits", 0)) == [
        "trainer.max_epochs=3", "teacher=[]", "loss=[ce]", "seed=0", "seeds=1",
    ]  # fmt: skip
    assert table.overrides_of(Cell("kd", "digits", 0), smoke=True)[-1] == "trainer.max_epochs=1"
    assert table.published["kd", "wide"] == ((96.0, "paper"),)


def test_load__says_every_mistake_at_once(tmp_path: Path) -> None:
    text = YAML.replace("title: A table", "titel: A table").replace(
        "rule: last\nbaseline: kd", "rule: lst\nbaseline: kdd"
    )
    text = text.replace("seeds: 2", "seeds: [1, 1]").replace("source: paper, row: kd", "row: kd")
    text = text.replace("kd: {wide: [optimizer.lr=0.2]}", "kdd: {wide: []}").replace("of: kd,", "of: kdd,")
    text = text.replace("matched: {wide: too dear}", "matched: {wild: too dear}")
    text = text.replace("[loss.kd.weight=0.9]", "[seed=3, quiet]").replace("arm: alone", "arm: alon")
    with pytest.raises(ConfigError) as caught:
        declare(tmp_path, text)
    said = [sentence.removeprefix(f"{tmp_path / 'table.yaml'}: ") for sentence in caught.value.problems]
    for expected in (
        "titel: no such key; did you mean title?",
        "title: missing; every table has it",
        "rule=lst: did you mean last?",
        "baseline: no such row that trains as kdd; did you mean kd?",
        "seeds=[1, 1]: must be a number of seeds, or a list of different ones such as [0,1,2]",
        "published[0]: has no source; a published number needs one of paper",
        "cells: no such row as kdd; did you mean kd?",
        "rows.matched.matched.of: no such row as kdd; did you mean kd?",
        "left_out.matched: no such column as wild; did you mean wide?",
        "rows.kd.overrides: seed=3: the table itself sets seed; leave it out",
        "rows.kd.overrides: quiet: has no value; write key=value",
        "rows.alone.arm=alon: did you mean alone?",
    ):
        assert expected in said
    assert len(said) == 12


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("title: [", "is no yaml"),
        ("- a", "must be a mapping with the keys"),
        (YAML.replace("  kd: {title", "  k-d: {title").replace("kd:", "k-d:"), "must start with a letter"),
        (YAML.replace("digits: 95.5", "digits: 955"), "values.digits=955: must be percent, at most 100"),
        (YAML.replace("temperature: 4", "temperature: warm"), "temperature=warm: must be a number"),
        (YAML.replace("of: kd", "of: alone"), "alone is no distilled row of its own"),
    ],
)
def test_load__refuses(text: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r".*") as caught:
        declare(tmp_path, text)
    assert sentence in str(caught.value)


def test_load__names_a_folder_without_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        spec.load(tmp_path)


def test_replaced__drops_what_was_set_below_the_old_choice() -> None:
    before = ["dataset=image_folder", "dataset.root=x", "+loss.kd.x=1", "seed=0"]
    assert replaced(before, ["dataset=synthetic"]) == [
        "dataset=image_folder",
        "+loss.kd.x=1",
        "seed=0",
        "dataset=synthetic",
    ]


@pytest.mark.parametrize("term", ["kd", "dkd", "dist"])
def test_control__weight_is_exactly_the_squared_temperature(term: str) -> None:
    row = (f"loss=[ce,{term}]", "scheduler=linear_temperature", f"loss.{term}.weight=0.9")
    cfg = resolved(compose([*row, *control(row, Matched("linear", 4.0))]))
    assert cfg["loss"]["ce"]["weight"] == 1.0
    objective = _objective(cfg)
    moving = _objective(resolved(compose(row)))
    for epoch in range(11):
        progress = Progress(epoch / 10, epoch + 1, 11)
        objective.set_progress(progress)
        moving.set_progress(progress)
        temperature = 5 - 4 * epoch / 10
        loss, other = objective.losses[term], moving.losses[term]
        assert (loss.temperature, loss.t2) == (4.0, False)
        assert (other.temperature, other.t2) == (pytest.approx(temperature), True)
        assert objective.weights[term] == pytest.approx(0.9 * temperature**2)
        assert moving.weights[term] == 0.9


def test_control__follows_a_scheduled_weight_too() -> None:
    row = ("scheduler=[linear_temperature,linear_weight]", "loss.kd.weight=${scheduler.linear_weight}")
    objective = _objective(resolved(compose([*row, *control(row, Matched("x", 2.0))])))
    objective.set_progress(Progress(0.25, 2, 5))
    assert objective.weights["kd"] == pytest.approx(0.25 * 4.0**2)


def test_control__within_another_composition() -> None:
    with Composer() as composer:
        first = composer.full(["seed=1"])
        assert control(("loss.kd.weight=0.7",), Matched("x", 3.0))[0] == "loss.kd.temperature=3.0"
        assert composer.full(["seed=2"]).seed == first.seed + 1


def test_control__needs_a_term_with_a_temperature() -> None:
    with pytest.raises(
        ConfigError, match=r"of=mse: no term has both temperature and t2=true in its loss=\[ce,logit_mse\]"
    ):
        control(("loss=[ce,logit_mse]",), Matched("mse", 4.0))
    with pytest.raises(ConfigError, match="of=bad: the row does not compose"):
        control(("loss=[ce,kdd]",), Matched("bad", 4.0))


def test_written__is_hydras_grammar() -> None:
    assert written({"a": [1, None, True], "b": "${x.y}"}) == "{a:[1,null,true],b:${x.y}}"


def _objective(cfg: dict) -> Objective:  # type: ignore[type-arg]
    from distill.config import build

    losses = {name: build(node, name, drop=("weight",)) for name, node in cfg["loss"].items()}
    weights = {n: build(w, n) if isinstance(w := node["weight"], dict) else w for n, node in cfg["loss"].items()}
    return Objective(losses, weights)


def test_load__metrics(tmp_path: Path) -> None:
    assert declare(tmp_path / "a").metrics == ()
    assert declare(tmp_path / "b", YAML + "metrics: [test/pointing]\n").metrics == ("test/pointing",)
    with pytest.raises(ConfigError, match=r"metrics=test/nll: must be a list of columns of metrics.csv"):
        declare(tmp_path / "c", YAML + "metrics: test/nll\n")
