"""Filling: every record right and computed once, by one process or several, killed in the middle or not."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from distill.cache.fill import fill
from distill.cache.store import BLOCK
from distill.cache.teacher import Cached
from distill.data.base import Views
from tests.cache.parts import SOURCE, TAKEN, Counting, computed, hold, main, make, stream

ALL = TAKEN * 9


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.cache.parts"])  # torch is imported once for all processes


def start(how: str, folder: Path, seconds: float = 0.0) -> BaseProcess:
    process = FORKS.Process(target=main, args=(how, folder, seconds))
    process.start()
    return process


def forwards(process: BaseProcess, folder: Path) -> int:
    process.join(120)
    assert process.exitcode == 0
    return int((folder / f"forwards-{process.pid}").read_text())


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
    process.kill()
    process.join()
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
    shares = [forwards(process, tmp_path) for process in both]
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
    shares = forwards(ahead, tmp_path), forwards(lazy, tmp_path)
    slots = computed(tmp_path / "log")
    assert len(slots) == len(slots.unique()) == sum(shares) == ALL
    check_every_record(*make(tmp_path))


@pytest.mark.slow
def test_fill__waits_for_a_block_that_another_process_holds_and_then_does_it(tmp_path: Path) -> None:
    process = FORKS.Process(target=hold, args=(tmp_path, 1))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    cached, views = make(tmp_path)
    with cached.store.block(1, False) as held:
        assert not held

    def kill(done: int, total: int) -> None:
        if total - done == int((views.ids >= BLOCK).sum()):  # only the held block is left: its holder dies
            process.kill()

    assert fill(cached, views, 100, kill).forwards == ALL
    assert SOURCE > BLOCK
    check_every_record(cached, views)
    process.join()


def test_open__by_many_processes_at_once_makes_one_cache(tmp_path: Path) -> None:
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        processes = [FORKS.Process(target=make, args=(folder,)) for _ in range(6)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [process.exitcode for process in processes] == [0] * 6
