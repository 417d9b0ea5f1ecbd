"""Cells of a table as processes: killed, resumed, waited for, launched; the command around them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from distill import cells as processes
from distill import forked
from distill.cells import Cell as Process
from distill.cells import Ended
from distill.commands.table import main
from distill.config import ConfigError
from distill.forked import Forked
from distill.tables import run as running
from distill.tables.checking import Configs, check, places, teachers
from distill.tables.collect import collect
from distill.tables.progress import Counter, Display, duration
from distill.tables.selection import covering, selected, slots_of
from distill.tables.spec import Cell
from distill.tables.store import DONE, RUNNING, Store
from tests.tables.parts import YAML, declare, finish

ROOT = Path(__file__).parents[2]
EIGHT = """
title: Eight cells
rule: last
seeds: 4
overrides: [trainer.max_epochs=3]
columns: {narrow: {title: Narrow}, wide: {title: Wide, overrides: [student.width=32]}}
rows: {kd: {title: KD}}
"""
OWN = """
import os, threading, torch
from distill.losses.kd import KD as Shipped

print("begun with", threading.active_count(), torch.cuda.is_initialized(), os.getsid(0) == os.getpid())

class KD(Shipped):
    pass
"""
FAKE = """
import json, sys, time, types
from pathlib import Path
from typing import Any
from distill.config import fingerprint
from distill.fit import STUDENT, identity, label
from distill.records import RESULT, code_hash, read_json, write_json
from tests.tables.parts import record

def train(cfg, folder, overrides, title, member=None):
    teacher = next((node["checkpoint"] for node in cfg["teacher"].values()), "")
    made = record(cfg["seed"], label(cfg), fingerprint(identity(cfg)), 90.0 + cfg["seed"], teacher)
    made["code"] = code_hash(cfg)
    write_json(folder / RESULT, made | {"status": "running"})
    for epoch in range((read_json(folder / "last.json") or {"epochs": 0})["epochs"], 4):
        time.sleep(0.1)
        write_json(folder / "last.json", {"epochs": epoch + 1})
    (folder / STUDENT).write_text(label(cfg))
    write_json(folder / RESULT, made)

sys.modules["distill.training"] = types.SimpleNamespace(train=train)
from distill import cli
from distill.comparison import run

def main(arguments):
    job = json.loads(Path(arguments[0]).read_text())
    print("begun", flush=True)
    run(job["config"], job["overrides"], checked=True).save(Path(job["folder"]))
    return 0

cli.main = main  # what a fork server calls
if __name__ == "__main__":
    main(sys.argv[1:])
"""
"""`distill train` with all of its store and none of its arithmetic: locks, records, teachers and summaries are real."""


@pytest.mark.slow
def test_run__cells_killed_at_random_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(declare(tmp_path / "table", EIGHT), tmp_path / "runs")
    alive: list[processes._Running] = []
    start = processes._start

    def watched(*given: Any) -> processes._Running:
        found = start(*given)
        alive.append(found)
        return found

    monkeypatch.setattr(processes, "_start", watched)
    monkeypatch.setattr(forked, "EVERY", ())
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{tmp_path}")
    monkeypatch.setattr(processes, "PROGRAM", (sys.executable, str(tmp_path / "fake.py")))
    (tmp_path / "fake.py").write_text(FAKE)
    over, kills, rng = threading.Event(), [], random.Random(0)

    def kill() -> None:
        while not over.wait(rng.uniform(0.05, 0.3)) and len(kills) < 16:
            living = [found for found in alive if found.process.poll() is None]
            living = [f for f in living if f.cell.log.stat().st_size]  # has begun: killing an import tests Python
            if living:
                victim = rng.choice(living)
                os.kill(victim.process.pid, signal.SIGKILL)
                kills.append(victim.cell.words)

    with Configs(store) as configs:
        assert check(configs, places(list(store.table))) == []

        def process(store: Store, cell: Cell, number: int, _: object) -> Process:
            job = {"config": configs.of(cell), "overrides": store.overrides(cell), "folder": str(store.folder(cell))}
            folder = store.folder(cell)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "job.json").write_text(json.dumps(job))
            command = [*processes.PROGRAM, str(folder / "job.json")]
            return Process(number, str(cell), command, folder, modules=("fake",) if number % 4 else None)

        monkeypatch.setattr(running, "_process", process)
        # teachers are trained by several at once too: the lock has to hold
        monkeypatch.setattr(running, "_readiness", lambda *_: lambda *_: True)
        thread = threading.Thread(target=kill)
        thread.start()
        rounds, failed = 0, 1
        while failed and rounds < 30:
            todo = [cell for cell in store.table if store.state(cell).kind != DONE]
            failed = running.run(store, todo, 8 - len(todo), 8, configs)
            rounds += 1
        over.set()
        thread.join()
    found = collect(store)
    students = [(e.row, e.column, e.seed, e.last) for e in found.entries if e.arm == "distilled"]
    assert found.warnings == []
    assert len(kills) >= 8
    assert {type(found.process) for found in alive} == {Forked, subprocess.Popen}
    assert rounds > 1
    assert students == [(*cell, 90.0 + cell.seed) for cell in store.table]
    assert [(e.arm, e.column) for e in found.entries if e.arm != "distilled"] == [
        ("teacher", "narrow"),
        ("teacher", "wide"),
    ]
    assert len({e.fingerprint for e in found.entries if e.arm == "teacher"}) == 1
    assert len(found.epochs) == 3 * 10
    print(f"{len(kills)} kills, {rounds} rounds, {len(alive)} processes for 8 cells")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_main__real_cells_run_resume_and_collect(
    importable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(importable)
    (tmp_path / "mine.py").write_text(OWN)
    text = EIGHT.replace("seeds: 4", "seeds: 2").replace("=3]", "=1, dataset.batch_size=64]")
    declare(tmp_path / "table", text.replace("title: KD}", "title: KD, overrides: [loss.kd._target_=mine.KD]}"))
    assert main(["table", "run", "--only", "column=narrow,seed=0"]) == 0
    assert main(["table", "run", "--only", "column=narrow", "--launcher", "process"]) == 0
    (file,) = (tmp_path / "runs/tables/table").glob("cells-*.json")
    listed = json.loads(file.read_text())
    assert len(listed) == 1
    assert "hydra.sweep.subdir='kd/narrow/s1'" in listed[0]
    assert main(["table", "run", "--only", "column=narrow"]) == 0
    printed = capsys.readouterr()
    assert "2 cells, 2 done, 0 to run" in printed.out, printed.err
    record = json.loads(next((tmp_path / "runs").glob("*kd-s1-*/result.json")).read_text())
    assert record["config"]["tags"] == ["kd", "narrow"]
    assert main(["table", "collect"]) == 0
    assert "4 trainings" not in (said := capsys.readouterr().out)
    assert "3 trainings, 3 of them new" in said
    assert main(["table", "status", "--only", "column=narrow"]) == 0
    assert main(["table", "status"]) == 1
    assert "4 cells: 2 done, 2 not run" in capsys.readouterr().out
    assert main([".", "--rule", "last"]) == 0  # and the runs are those of any sweep

    assert main(["table", "run", "--fresh", "--only", "column=narrow", "--out", "forked", "--slots", "2"]) == 0
    for seed in (0, 1):
        log = (tmp_path / f"forked/tables/table/kd/narrow/s{seed}/job.out").read_text()
        assert "begun with 1 False True" in log
        alike = [next(Path(out).glob(f"*kd-s{seed}-*/student.safetensors")) for out in ("runs", "forked")]
        assert alike[0].parent.name == alike[1].parent.name
        assert alike[0].read_bytes() == alike[1].read_bytes()


def test_readiness__one_of_those_that_share_a_teacher_trains_it(tmp_path: Path) -> None:
    text = EIGHT.replace("[student.width=32]", "[+teacher.digits_cnn.training.seed=5]").replace("+teacher", "teacher")
    store = Store(declare(tmp_path / "table", text), tmp_path / "runs")
    todo = list(store.table)
    made = [running._process(store, cell, i) for i, cell in enumerate(todo)]
    with Configs(store) as configs:
        ready = running._readiness(configs, todo)
        assert not ready(made[1], [made[0]])  # same teacher
        assert ready(made[4], [made[0]])  # another teacher
        assert not ready(made[1], [made[4], made[0]])
        assert ready(made[4], [made[0], made[1]])
        assert ready(made[1], [])
        config = configs.of(todo[0])
        assert config is not None
        (folder,) = teachers(config)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text('{"status": "complete"}')
        assert ready(made[1], [made[0]])


def test_command__names_the_cell_and_the_user_has_the_last_word(tmp_path: Path) -> None:
    store = Store(declare(tmp_path / "table"), tmp_path / "it's", ("tags=[mine]",))
    process = running._process(store, Cell("kd", "wide", 1), 0)
    assert process.environment == {"WANDB_RUN_GROUP": "table"}
    words = process.command[4:]
    assert words[:2] == ['tags=["kd","wide"]', "quiet=true"]
    assert words.index("tags=[mine]") > words.index("seed=1")
    assert words[-2].startswith("out='/")
    assert "it\\'s'" in words[-2]
    with Configs(store) as configs:
        typed = [configs._composer.parse(word) for word in words]
        config, mistakes = configs._composer.compose(typed)
    assert mistakes == []
    assert (config.out, config.tags, config.seed) == (str(tmp_path / "it's"), ["mine"], 1)


def test_check__names_the_cells_of_each_mistake(tmp_path: Path) -> None:
    text = YAML.replace("[loss.kd.weight=0.9]", "[loss.kd.wait=0.9, loss.kd.weight=0.9]")
    store = Store(declare(tmp_path / "table", text), tmp_path / "runs")
    where = [at for at in places(list(store.table)) if at.row != "alone"]
    with Configs(store) as configs:
        found = check(configs, where)
    assert len(found) == 2
    assert found[0].startswith("kd / digits, kd / wide: loss.kd.wait=0.9: no such key")
    assert found[1].startswith("matched / digits: matched: of=kd: the row does not compose")


def test_check__is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(declare(tmp_path / "table", EIGHT), tmp_path / "runs")
    with Configs(store) as configs:
        assert check(configs, places(list(store.table))) == []
    with Configs(store) as configs:
        monkeypatch.setattr(Configs, "at", lambda *_: pytest.fail("composed again"))
        assert check(configs, places(list(store.table))) == []


def test_selected__narrows_and_orders_by_seed(tmp_path: Path) -> None:
    table = declare(tmp_path / "table")
    cells = selected(table, ["row=kd,alone", "column=digits"], None)
    assert cells == [Cell(row, "digits", seed) for seed in (0, 1) for row in ("alone", "kd")]
    assert [cell.seed for cell in selected(table, [], 1)] == [0] * 5
    with pytest.raises(ConfigError) as caught:
        selected(table, ["row=kdd,seed=7", "nothing"], 3)
    assert caught.value.problems == [
        "--only row=kdd: no such row; did you mean kd?",
        "--only seed=7: no such seed; choose one of 0, 1",
        "--only seed=nothing: no such seed; choose one of 0, 1",
        "--seeds 3: must be between 1 and 2, the seeds of the table",
    ]


def test_covering__every_row_and_every_column_in_few_cells(tmp_path: Path) -> None:
    table = declare(tmp_path / "table")
    cells = covering(selected(table, [], None))
    assert cells == [Cell("alone", "digits", 0), Cell("kd", "wide", 0), Cell("matched", "digits", 0)]
    one_row = covering(selected(table, ["row=kd"], None))
    assert one_row == [Cell("kd", "digits", 0), Cell("kd", "wide", 0)]
    assert covering([]) == []


@pytest.mark.parametrize(
    "text, slots", [(None, None), ("3", 3), ("0,1", [0, 1]), ("[2]", [2]), ("['0,1','2,3']", ["0,1", "2,3"])]
)
def test_slots_of__a_number_or_a_list(text: str | None, slots: object) -> None:
    assert slots_of(text) == slots


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["rn"], "rn: no such action; did you mean run?"),
        ([], "is a declared table; say what to do: run, status, collect, render, check"),
        (["run", "seed=3"], "seed=3: the table itself sets seed; use --only, --seeds, --out"),
        (["run", "kd"], "kd: is no override; write key=value"),
        (["status", "--fast"], "unrecognized arguments: --fast; see distill table --help"),
        (["collect", "absent.csv"], "absent.csv: no such file; give a results.csv, or the folder of a table"),
        (["collect", "--smoke"], "what was only tried out is no result"),
        (["run", "student=nope"], "no such student as nope"),
    ],
)
def test_main__says_a_mistake_in_one_sentence(
    words: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    declare(tmp_path / "table", EIGHT)
    assert main([str(tmp_path / "table"), *words, "--out", str(tmp_path / "runs")]) == 2
    assert sentence in capsys.readouterr().err


def test_main__lists_tables_and_says_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(declare(tmp_path / "table"), tmp_path / "runs")
    for seed in (0, 1):
        finish(store, Cell("kd", "digits", seed), 90.0)
    failing = store.folder(Cell("alone", "wide", 0))
    failing.mkdir(parents=True)
    (failing / "job.out").write_text("loss.ce became NaN\n")
    out = ["--out", str(tmp_path / "runs")]
    assert main([str(tmp_path / "table"), "collect", *out]) == 0
    assert main([str(tmp_path)]) == 0
    assert "2 of 10" in capsys.readouterr().out
    assert main([str(tmp_path / "table"), "status", *out]) == 1
    said = capsys.readouterr().out
    assert "10 cells: 2 done, 1 failed, 7 not run" in said
    assert "failed: alone / wide / seed 0: loss.ce became NaN" in said
    assert main([str(tmp_path / "table"), "status", "--out", str(tmp_path / "elsewhere")]) == 1
    assert "10 cells: 2 known from results.csv only, 8 not run" in capsys.readouterr().out
    assert main([str(tmp_path / "runs"), "run"]) == 2
    assert "has no table.yaml" in capsys.readouterr().err


def test_main__an_action_on_each_table_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        declare(tmp_path / name, EIGHT)
    (tmp_path / "third").mkdir()
    (tmp_path / "third" / "table.yaml").write_text("[")
    assert main([str(tmp_path), "status", "--out", str(tmp_path / "runs")]) == 2  # the worst of 1, 1 and 2
    out, err = capsys.readouterr()
    assert out.count("8 cells: 8 not run") == 2
    assert "third/table.yaml: is no yaml" in err
    assert main([str(tmp_path), "run", "--cover", "--dry-run", "--seeds", "5"]) == 2
    assert capsys.readouterr().err.count("--seeds 5: must be between 1 and 4") == 2


def test_main__dry_run_prices_by_what_is_known_and_by_flops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(declare(tmp_path / "table"), tmp_path / "runs")
    finish(store, Cell("kd", "digits", 0), 90.0, seconds=30.0)
    assert main([str(tmp_path / "table"), "run", "--dry-run", "--slots", "2", "--out", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "kd / digits / seed 1: 30 s (measured: mean of 1 from other seeds)" in lines
    assert "alone / digits / seed 0: 30 s (measured: mean of 1 from other rows of the column)" in lines
    assert any(
        "kd / wide / seed 0: " in line and "(estimate: " in line and "FLOP/s, measured now" in line for line in lines
    )
    assert lines[-1].startswith("9 cells: ")
    assert not list((tmp_path / "runs").glob("tables/*/alone"))


def test_counter__says_what_is_left() -> None:
    counter = Counter(10, 4, 2)
    cell = Process(0, "x", [], Path())
    assert counter.line() == "4 of 10 cells done"
    counter.ended(cell, Ended({}), 60.0)
    counter.ended(cell, Ended({}, "[0] x: exit code 1: no"), 120.0)
    assert counter.line(2) == "5 of 10 cells done, 2 running, 1 failed, about 3 min left"
    assert [duration(s) for s in (3, 600, 7200, 200_000)] == ["3 s", "10 min", "2.0 h", "2.3 days"]


def test_display__shows_running_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = Process(0, "kd / digits / seed 0", [], tmp_path)
    cell.log.write_text("epoch 3/60  loss 0.5\n")
    with Display(3, 1, 1) as display:
        display.started(cell, None)
        display.moment([cell])
        display.ended(cell, Ended({}, "[0] kd / digits / seed 0: exit code 1: it broke"), 5.0)
    said = capsys.readouterr().err
    assert "1 of 3 cells done, 1 running" in said
    assert "kd / digits / seed 0" in said
    assert "epoch 3/60" in said
    assert "it broke" in said


def test_state__running_in_another_process(tmp_path: Path) -> None:
    store = Store(declare(tmp_path / "table"), tmp_path / "runs")
    cell = Cell("kd", "digits", 0)
    made = Process(0, str(cell), [sys.executable, "-c", "import time; time.sleep(30)"], store.folder(cell))
    found = processes._start(made, 0, [{}])
    try:
        assert store.state(cell).kind == RUNNING
    finally:
        found.process.kill()
        found.process.wait()
    assert store.state(cell).kind != RUNNING
