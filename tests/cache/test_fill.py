"""Filling: every record right and computed once, by one process or several, killed in the middle or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from distill.cache.fill import fill
from distill.cache.store import BLOCK
from distill.cache.teacher import Cached
from distill.data.base import Views
from tests.cache.parts import SOURCE, TAKEN, Counting, computed, make, stream

ALL = TAKEN * 9
ROOT = Path(__file__).parents[2]


def start(how: str, folder: Path, seconds: float = 0.0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.cache.parts", how, str(folder), str(seconds)]
    where = Path(__file__).parents[2]
    return subprocess.Popen(
        command, cwd=where, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."}
    )


def forwards(process: subprocess.Popen[str]) -> int:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return int(out)


def check_every_record(cached: Cached, views: Views) -> None:
    """Compare all records of the split with what the teacher says of each image alone."""
    teacher = cached.teacher
    assert isinstance(teacher, Counting)
    assert cached.store.filled() == ALL
    index = torch.arange(TAKEN)
    for number in range(9):
        batch = cached.slots.batch(views, index, number, torch.device("cpu"))
        assert batch.slot is not None
        found, values = cached.store.look(batch.slot)
        expected = teacher.answer(batch.inputs)
        assert bool(found.all())
        assert torch.equal(values["logits"], expected.logits)
        assert torch.equal(values["pooled"], expected.features["pooled"].half().float())


def test_fill__computes_everything_once_in_batches_of_one_size(tmp_path: Path) -> None:
    cached, views = make(tmp_path)
    said: list[tuple[int, int]] = []
    done = fill(cached, views, 100, lambda *news: said.append(news))
    assert (done.records, done.forwards) == (ALL, ALL)
    assert said[-1] == (ALL, ALL)
    assert isinstance(cached.teacher, Counting)
    assert set(cached.teacher.sizes) == {100}
    assert len(computed(tmp_path / "log").unique()) == len(computed(tmp_path / "log")) == ALL
    check_every_record(cached, views)
    again, views = make(tmp_path)
    assert fill(again, views, 100, lambda *news: None).forwards == 0


@pytest.mark.slow
def test_fill__goes_on_after_a_kill(tmp_path: Path) -> None:
    process = start("ahead", tmp_path, seconds=0.05)
    deadline = time.monotonic() + 60
    while len(computed(tmp_path / "log")) < 2500 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = computed(tmp_path / "log")
    assert 2500 <= len(before) < ALL
    cached, views = make(tmp_path)
    kept = cached.store.filled()
    assert len(before) - 100 <= kept <= len(before)  # all but the batch that was in flight
    assert fill(cached, views, 100, lambda *news: None).forwards == ALL - kept
    check_every_record(cached, views)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ahead", "lazy"])
def test_fill__two_processes_compute_every_record_once(tmp_path: Path, how: str) -> None:
    both = [start(how, tmp_path, seconds=0.02) for _ in range(2)]
    shares = [forwards(process) for process in both]
    slots = computed(tmp_path / "log")
    assert len(slots) == len(slots.unique()) == sum(shares)
    assert min(shares) > 0
    cached, views = make(tmp_path)
    if how == "ahead":
        assert sum(shares) == ALL
        check_every_record(cached, views)
    else:
        for batch in stream(views, 3):
            cached.prefetch([batch])
        assert cached.forwards == 0


@pytest.mark.slow
def test_fill__ahead_and_lazily_at_the_same_time(tmp_path: Path) -> None:
    ahead, lazy = start("ahead", tmp_path, seconds=0.02), start("lazy", tmp_path, seconds=0.02)
    shares = forwards(ahead), forwards(lazy)
    slots = computed(tmp_path / "log")
    assert len(slots) == len(slots.unique()) == sum(shares) == ALL
    check_every_record(*make(tmp_path))


def test_fill__waits_for_a_block_that_another_process_holds_and_then_does_it(tmp_path: Path) -> None:
    holder = (
        "import sys, time; from pathlib import Path; from tests.cache.parts import make\n"
        "cached, _ = make(Path(sys.argv[1]))\n"
        "with cached.store.block(1, False) as held: print(held, flush=True); time.sleep(60)"
    )
    where = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], cwd=where, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    cached, views = make(tmp_path)
    with cached.store.block(1, False) as held:
        assert not held

    def kill(done: int, total: int) -> None:
        if total - done == int((views.ids >= BLOCK).sum()):  # only the held block is left: its holder dies
            process.kill()

    assert fill(cached, views, 100, kill).forwards == ALL
    assert SOURCE > BLOCK
    check_every_record(cached, views)
    process.wait()
    process.stdout.close()
