"""results.csv and curves.csv: written, read, merged; what is corrupt or foreign is named and left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.tables import results
from distill.tables.collect import MOST, collect, curve_of, entry_of
from distill.tables.spec import Cell
from distill.tables.store import DONE, FAILED, INTERRUPTED, MISSING, Store, settled
from tests.tables.parts import YAML, declare, finish, record

KD = Cell("kd", "digits", 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(declare(tmp_path / "table"), tmp_path / "runs")


def test_collect__finds_students_and_their_teachers(store: Store) -> None:
    for i, cell in enumerate(store.table):
        finish(store, cell, 90.0 + i)
    found = collect(store)
    assert found.warnings == []
    assert found.new == len(found.entries) == len(list(store.table)) + 2
    teachers = [e for e in found.entries if e.arm == "teacher"]
    assert [(e.row, e.column, e.seed, e.last) for e in teachers] == [
        ("teacher", "digits", 0, 99.0),
        ("teacher", "wide", 0, 99.0),
    ]
    first = next(e for e in found.entries if (e.row, e.column, e.seed) == tuple(KD))
    assert (first.label, first.teacher, first.git) == ("digits-kd-digits-s0", "digits-big-alone-s0", "5fdc9cf79e*")
    assert (first.nll, first.by_class, first.agreement) == (0.3457, (100.0, 33.3, None), 90.12)
    assert first.overrides == "trainer.max_epochs=3 loss.kd.weight=0.9 alone=false seed=0 seeds=1"
    assert [e.epoch for e in found.epochs if e.training == first.training] == [1, 2, 3]
    assert first.accuracy("val_chosen") == first.last - 0.5


def test_collect__written_and_read_is_the_same(store: Store) -> None:
    for cell in store.table:
        finish(store, cell, 91.23456)
    found = collect(store)
    paths = results.write(store.table.folder, found.entries, found.epochs)
    before = [path.read_text() for path in paths]
    entries, epochs = results.read(store.table.folder)
    assert entries == found.entries
    assert epochs == found.epochs
    again = collect(store)
    assert (again.new, again.warnings) == (0, [])
    results.write(store.table.folder, again.entries, again.epochs)
    assert [path.read_text() for path in paths] == before


def test_collect__union_of_two_people_is_clean_in_either_order(tmp_path: Path) -> None:
    ours, theirs = (Store(declare(tmp_path / who / "table"), tmp_path / who / "runs") for who in ("us", "them"))
    finish(ours, KD, 90.0)
    finish(ours, Cell("kd", "digits", 1), 91.0)
    finish(theirs, Cell("kd", "digits", 1), 91.0)
    finish(theirs, Cell("alone", "wide", 0), 80.0)
    finish(theirs, KD, 95.0, finished="2026-02-02T00:00:00+00:00")  # the same config, trained once more
    for side in (ours, theirs):
        found = collect(side)
        results.write(side.table.folder, found.entries, found.epochs)
    both = [collect(a, [b.table.folder / "results.csv"]) for a, b in ((ours, theirs), (theirs, ours))]
    assert both[0].entries == both[1].entries
    assert both[0].epochs == both[1].epochs
    assert both[0].warnings == both[1].warnings == []
    students = [(e.row, e.column, e.seed, e.last) for e in both[0].entries if e.arm != "teacher"]
    assert students == [("alone", "wide", 0, 80.0), (*KD, 90.0), (*KD, 95.0), ("kd", "digits", 1, 91.0)]
    curve = [e.values["test/accuracy"] for e in both[0].epochs if (e.row, e.column, e.seed) == tuple(KD)]
    assert curve == [93.0, 94.0, 95.0]  # of the later training


def test_collect__heals_a_conflict_that_git_left(store: Store) -> None:
    for seed in (0, 1):
        finish(store, Cell("kd", "digits", seed), 90.0 + seed)
    found = collect(store)
    results.write(store.table.folder, found.entries, found.epochs)
    path = store.table.folder / "results.csv"
    head, *lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([head, lines[0], "<<<<<<< ours", lines[1], "=======", head, lines[2], ">>>>>>> theirs", ""])
    )
    healed = collect(Store(store.table, store.out / "nothing"))
    assert healed.entries == found.entries
    assert [w.partition(":")[0] for w in healed.warnings] == [f"{path}, line {n}" for n in (3, 5, 8)]


@pytest.mark.parametrize(
    "content, expected",
    [
        ('{"status": "comp', "half-written or no record"),
        ("[1, 2]", "half-written or no record"),
        ('{"status": "running"}', "not complete"),
        ('{"status": "complete", "label": "x"}', "is no record of distill"),
        ("\x00\xff\x00", "half-written or no record"),
    ],
)
def test_collect__names_a_record_that_cannot_be_used(content: str, expected: str, store: Store) -> None:
    finish(store, Cell("kd", "digits", 1), 91.0)
    run = finish(store, KD, 90.0)
    (run / "result.json").write_text(content)
    found = collect(store)
    assert [(e.arm, e.seed) for e in found.entries if e.arm != "teacher"] == [("distilled", 1)]
    assert len(found.warnings) == 1
    assert str(run / "result.json") in found.warnings[0]
    assert expected in found.warnings[0]


def test_collect__names_a_summary_that_cannot_be_used(store: Store) -> None:
    finish(store, KD, 90.0)
    (store.folder(KD) / "summary.json").write_text('{"overrides": [')
    other = Cell("kd", "digits", 1)
    finish(store, other, 90.0)
    summary = json.loads((store.folder(other) / "summary.json").read_text())
    (store.folder(other) / "summary.json").write_text(json.dumps({**summary, "overrides": ["seed=1"]}))
    found = collect(store)
    assert found.entries == []
    assert "not a summary that can be read" in found.warnings[0]
    assert "of a cell with other overrides than kd / digits / seed 1 has now" in found.warnings[1]


def test_collect__leaves_out_what_is_foreign_or_outdated(store: Store, tmp_path: Path) -> None:
    finish(store, KD, 90.0)
    found = collect(store)
    results.write(store.table.folder, found.entries, found.epochs)
    lines = (store.table.folder / "results.csv").read_text().splitlines()
    (tmp_path / "broken.csv").write_text("\n".join([lines[0], lines[1].replace("kd", "gone"), lines[2][:50], ""]))
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n")
    merged = collect(store, [tmp_path / "broken.csv", tmp_path / "foreign.csv"])
    assert merged.entries == found.entries
    said = "\n".join(merged.warnings)
    assert "broken.csv, line 3: has" in said
    assert "foreign.csv: is no results.csv or curves.csv of distill" in said
    with pytest.raises(FileNotFoundError, match="no such file"):
        collect(store, [tmp_path / "absent.csv"])
    changed = Store(declare(store.table.folder, YAML.replace("0.9", "0.8")), tmp_path / "none")
    outdated = collect(changed)
    assert outdated.entries == []
    assert outdated.warnings == ["1 line left out: kd / digits has other overrides now"]


def test_curve_of__thins_a_long_training(store: Store) -> None:
    history = [{"epoch": e, "test/accuracy": float(e)} for e in range(1, 241)]
    made = record(0, "x", "ff", 90.0, "runs/big-s0-ff/student.safetensors") | {"history": history}
    finish(store, KD, 90.0)
    trained = next(store.trained(KD, []))._replace(record=made)
    curve = curve_of(entry_of(store, KD, trained), made)
    assert len(curve) <= MOST
    assert curve[-1].epoch == 240


def test_state__of_a_cell(store: Store) -> None:
    folder = store.folder(KD)
    assert store.state(KD).kind == MISSING
    folder.mkdir(parents=True)
    (folder / "job.out").write_text("loss.kd.weight=-1: must not be negative\n")
    assert store.state(KD) == (FAILED, "loss.kd.weight=-1: must not be negative")
    (folder / "job.out").write_text("stopped by SIGTERM; its checkpoint was saved: run the same command to go on\n")
    assert store.state(KD).kind == INTERRUPTED
    run = finish(store, KD, 90.0)
    assert store.state(KD).kind == DONE
    (run / "result.json").write_text('{"status": "running"}')
    assert store.state(KD).kind == INTERRUPTED
    finish(store, KD, 90.0)
    assert Store(store.table, store.out, ("optimizer.lr=1",)).state(KD).kind == MISSING
    assert Store(store.table, store.out, ("dataset.root=/elsewhere", "logger=wandb")).state(KD).kind == DONE


def test_settled__the_last_of_a_key_counts() -> None:
    assert settled(["b=1", "a=1", "+a=2", "out=x", "hydra.run.dir=y", "tags=[a]"]) == ("+a=2", "b=1")
