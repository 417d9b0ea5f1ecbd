"""Children of a fork server: they end, fail, are stopped and are known to live as processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill import cells, forked
from distill.cells import PROGRAM, Cell, Forks, is_running, run_cells
from distill.config import compose
from distill.forked import LOST, Forked, ForkServer, modules_of

SOON = 20.0
PLACED = {"CUDA_VISIBLE_DEVICES": "7"}


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(forked, "EVERY", ())
        made = ForkServer(["tests.forked"], os.environ)
    yield made
    made.close()


def _start(server: ForkServer, log: Path, *words: str, **variables: str) -> Forked:
    with log.open("wb") as file:
        return server.start(words, {**os.environ, **variables}, file.fileno())


def _until(true: Any) -> None:
    end = time.monotonic() + SOON
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["nothing"], 0, ""),
        (["exit", "3"], 3, ""),
        (["say", "the disk is full"], 1, "the disk is full"),
        (["raise", "bad lr"], 1, "ValueError: bad lr"),
        (["crash"], -signal.SIGSEGV, ""),
    ],
)
def test_start__exit_code_and_last_words(
    words: list[str], code: int, said: str, server: ForkServer, tmp_path: Path
) -> None:
    child = _start(server, tmp_path / "log", *words)
    assert child.wait(SOON) == child.returncode == child.poll() == code
    assert (tmp_path / "log").read_text().strip().endswith(said)


def test_start__child_is_as_a_process_of_its_own(server: ForkServer, tmp_path: Path) -> None:
    child = _start(server, tmp_path / "log", "train", str(tmp_path), **PLACED)
    assert child.wait(SOON) == 0
    found = cells.read_json(tmp_path / "summary.json")
    assert found == {
        "forked_from": server.pid, "pid": child.pid, "session": child.pid, "input": "", "gpu": "7",
        "argv": ["train", str(tmp_path)],
    }  # fmt: skip
    assert _start(server, tmp_path / "log", "train", str(tmp_path)).wait(SOON) == 0
    assert (cells.read_json(tmp_path / "summary.json") or {})["gpu"] == os.environ.get("CUDA_VISIBLE_DEVICES")


def test_wait__signals_and_time(server: ForkServer, tmp_path: Path) -> None:
    first, second = (_start(server, tmp_path / str(i), "wait") for i in range(2))
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.0)
    _until(lambda: (tmp_path / "0").read_text() == "ready\n")
    first.terminate()
    assert first.wait(SOON) == 143
    first.terminate()  # of no effect, as on a Popen
    assert second.poll() is None
    os.killpg(second.pid, signal.SIGKILL)
    assert second.wait(SOON) == -signal.SIGKILL


def test_takes__what_is_read_at_import_must_be_the_same(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = server.environment
    assert server.takes({**here, **PLACED, "WANDB_RUN_GROUP": "a"})
    assert not server.takes({**here, "OMP_NUM_THREADS": "17"})
    assert not server.takes({k: v for k, v in here.items() if k != "PATH"})
    monkeypatch.chdir(tmp_path)
    assert not server.takes(here)


def test_close__children_live_on_and_hold_their_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "EVERY", ())
    cell = Cell(0, "a", [*PROGRAM, "wait"], tmp_path, modules=("tests.forked",))
    server = ForkServer(cell.modules or (), os.environ)
    child = cells._start(cell, 0, [{}], server).process
    _until(lambda: cell.log.read_text() == "ready\n")
    server.close()
    assert is_running(tmp_path)
    assert child.poll() is None
    with pytest.raises(ConnectionError):
        _start(server, tmp_path / "other", "nothing")
    os.kill(child.pid, signal.SIGTERM)
    assert child.wait(SOON) == LOST
    assert not is_running(tmp_path)


def test_start__a_server_that_was_killed_is_replaced_by_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "EVERY", ())
    cell = Cell(0, "a", [*PROGRAM, "--version"], tmp_path, trains=False, modules=("tests.forked",))
    forks = Forks()
    assert forks.server([cell], [{}]) is None  # of one cell only, so far
    server = forks.server([cell], [{}])
    assert server is not None
    assert server.takes(dict(os.environ))
    os.kill(server.pid, signal.SIGKILL)
    (ended,) = run_cells([cell], [{}], poll=0.01, forks=forks)
    assert ended.failure is None
    assert cell.log.read_text()[0].isdigit()  # of distill itself, which tests.forked does not replace here
    assert not server.takes(dict(os.environ))
    forks.close()


def test_run_cells__forks_all_from_one_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked, "EVERY", ())
    made = []
    for i in range(3):
        (tmp_path / str(i)).mkdir()
        command = [*PROGRAM, "train", str(tmp_path / str(i))]
        made.append(Cell(i, f"x={i}", command, tmp_path / str(i), modules=("tests.forked",)))
    made.append(Cell(3, "fails", [*PROGRAM, "raise", "bad lr"], tmp_path / "3", modules=("tests.forked",)))
    *found, failed = run_cells(made, [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}], poll=0.01)
    assert len({ended.summary["forked_from"] for ended in found}) == 1
    assert len({ended.summary["pid"] for ended in found}) == 3
    assert {ended.summary["gpu"] for ended in found} == {"0", "1"}
    assert failed.failure == "[3] fails: exit code 1: ValueError: bad lr"


def test_modules_of__one_process_and_distill_s_own_code() -> None:
    config = compose(["loss=[ce,dkd]"])
    config["loss"]["mine"] = {"_target_": "nobodys.Loss", "weight": 1.0}
    found = modules_of(config) or ()
    assert {"distill.losses.ce", "distill.losses.dkd", "distill.networks.digits", "distill.data.digits"} <= set(found)
    assert all(name.startswith("distill.") for name in found)
    config["trainer"]["devices"] = 2
    assert modules_of(config) is None
