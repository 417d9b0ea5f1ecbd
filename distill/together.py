"""Several students in one process: one data stream and one pass of each teacher for all of them; exact, in turns."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from time import perf_counter, process_time, sleep
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from distill.assemble import make_data, make_objective, make_teacher, taps_by_teacher
from distill.config import Config, fingerprint
from distill.data.base import ImageData
from distill.data.loader import Pace
from distill.fit import Interrupted, fit
from distill.outputs import Anchors, Batch, InputSpec, Outputs, Spec
from distill.records import Record
from distill.teachers.base import Teacher


class Shared(Teacher):
    """A teacher of several students: asked once for each batch, as long as somebody holds that batch.

    Args:
        teacher: who answers.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self.network, self.dtype = teacher.network, teacher.dtype
        self._told: Any = WeakTensorKeyDictionary()

    @property
    def anchors(self) -> Anchors | None:
        return self.teacher.anchors

    @property
    def sees_pixels(self) -> bool:
        return self.teacher.sees_pixels

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        self.teacher.read(input_spec, taps)

    def look(self, batch: Batch, taps: Sequence[str]) -> Outputs:
        return self.teacher.look(batch, taps)

    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        return self.teacher.specs(shape)

    def to(self, device: torch.device) -> None:
        self.teacher.to(device)

    def prefetch(self, batches: Sequence[Batch]) -> None:
        """Look up those that nobody asked for yet."""
        fresh = [batch for batch in batches if batch.inputs not in self._told]
        if fresh:
            self.teacher.prefetch(fresh)

    def __call__(self, batch: Batch) -> Outputs:
        if batch.inputs not in self._told:
            self._told[batch.inputs] = self.teacher(batch)
        told: Outputs = self._told[batch.inputs]
        return Outputs(told.logits, dict(told.features))


POLL = 0.2
"""Seconds between two looks at whether another process has ended."""


class Turns:
    """Lets one of several threads run at a time, each in its turn; so nothing needs to be safe for threads."""

    def __init__(self, members: int) -> None:
        self._changed = threading.Condition()
        self._order = deque(range(members))

    def join(self, member: int) -> None:
        """Wait for the first turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._order[0] == member)

    def pass_on(self, member: int) -> None:
        """Let everybody else have a turn, then go on."""
        with self._changed:
            self._order.rotate(-1)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._order[0] == member)

    def leave(self, member: int) -> None:
        """Take no more turns."""
        with self._changed:
            self._order.remove(member)
            self._changed.notify_all()


class Group:
    """What the trainings of one process share.

    Args:
        configs: resolved, one a training.
    """

    def __init__(self, configs: Sequence[Config]) -> None:
        self.turns = Turns(len(configs))
        self.stopping = False
        self._data: dict[str, ImageData] = {}
        self._teachers: dict[str, Shared] = {}
        self._pace: dict[Pace, Pace] = {}
        self._taps: dict[str, list[str]] = {}
        for cfg in configs:
            names = list(cfg["teacher"])
            taps = taps_by_teacher(make_objective(cfg["loss"]).teacher_taps, names) if names else {}
            for name in names:
                known = self._taps.setdefault(_teacher_key(cfg, name), [])
                known += [tap for tap in taps[name] if tap not in known]

    def data(self, cfg: Config) -> ImageData:
        """Return a data module that has its images, and the batch of the moment, in common with others of its kind."""
        made = make_data(cfg)
        first = self._data.setdefault(_data_key(cfg), made)
        if first is not made:
            made.share(first)
        else:
            made.recent = {}
        return made

    def teacher(self, cfg: Config, name: str, data: ImageData) -> Teacher:
        """Return the one teacher of all configs that say the same of it, with the taps that any of them reads."""
        key = _teacher_key(cfg, name)
        if key not in self._teachers:
            self._teachers[key] = Shared(make_teacher(name, cfg["teacher"][name], data, self._taps[key]))
        return self._teachers[key]

    def pace(self, own: Pace) -> Pace:
        """Return the pace of whoever came first, for batches are only shared at the same pace."""
        same = Pace(cut=own.cut, limit=own.limit)
        return self._pace.setdefault(same, own)


def _data_key(cfg: Config) -> str:
    return fingerprint([cfg["dataset"], cfg["cache"], cfg["seed"] if cfg["data_seed"] is None else cfg["data_seed"]])


def _teacher_key(cfg: Config, name: str) -> str:
    node = {k: v for k, v in cfg["teacher"][name].items() if k not in ("weight", "training")}
    return fingerprint([node, cfg["dataset"], cfg["trainer"].get("precision")])


class Member(pl.Callback):
    """One training of a group; gives its turn away before each call of the training step.

    Args:
        group: what it belongs to.
        number: its place in it.
    """

    def __init__(self, group: Group, number: int) -> None:
        self.group, self.number = group, number

    def idle(self) -> None:
        """Let the others train for a while: what this training needs is in the hands of another process.

        Raises:
            distill.fit.Interrupted: when SIGTERM or Ctrl-C came meanwhile.
        """
        began = perf_counter()
        self.group.turns.pass_on(self.number)
        if self.group.stopping:
            raise Interrupted("stopped while it waited for another process")
        sleep(max(0.0, POLL - (perf_counter() - began)))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        began, cpu = perf_counter(), process_time()
        self.group.turns.pass_on(self.number)
        pl_module.waited(perf_counter() - began, process_time() - cpu)
        if self.group.stopping:
            # signals reach the main thread only; from here on it is as if this trainer had got it
            trainer._signal_connector.received_sigterm = True


def fit_together(jobs: Sequence[tuple[Config, str]], overrides: list[str]) -> list[Record | BaseException]:
    """Train several configs in one process, in turns of a few steps; return their records, or errors, in order.

    Each result is that of a training by itself, up to rounding: the weights, batches and random numbers are its own.

    Args:
        jobs: resolved config and title of each.
        overrides: what the user typed, for the records.

    Raises:
        distill.fit.Interrupted: when SIGTERM ended them, after a checkpoint of each.
        KeyboardInterrupt: likewise.
    """
    group = Group([cfg for cfg, _ in jobs])
    records: dict[int, Record | BaseException] = {}

    def train(number: int) -> None:
        group.turns.join(number)
        cfg, title = jobs[number]
        try:
            records[number] = fit(cfg, overrides, title, Member(group, number))
        except BaseException as error:
            records[number] = error
        finally:
            group.turns.leave(number)

    threads = [threading.Thread(target=train, args=(i,), name=title) for i, (_, title) in enumerate(jobs)]
    on_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: setattr(group, "stopping", True)) if on_main else None
    try:
        for thread in threads:
            thread.start()
        waited = [_wait(thread, group) for thread in threads]
    finally:
        if on_main:
            signal.signal(signal.SIGTERM, before)
    if any(waited):
        raise KeyboardInterrupt
    for record in records.values():
        if isinstance(record, Interrupted):
            raise record
    return [records[i] for i in range(len(jobs))]


def _wait(thread: threading.Thread, group: Group) -> bool:
    """Wait for a training; return whether Ctrl-C came meanwhile, after which every one saves a checkpoint and ends."""
    interrupted = False
    while thread.is_alive():
        try:
            thread.join(POLL)  # a join without limit would not let Python handle signals
        except KeyboardInterrupt:
            interrupted = group.stopping = True
    return interrupted
