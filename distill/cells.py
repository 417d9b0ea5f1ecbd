"""Cells of a sweep as processes: as many at a time as there are slots; one that fails does not stop another."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from distill.forked import ForkServer
from distill.records import read_json
from distill.results import SUMMARY, Spread

LOG = "job.out"
PROGRAM = (sys.executable, "-m", "distill")
"""Start of the command of a cell that a fork server may run."""
GRACE = 120.0
"""Seconds that a cell has to write its checkpoint once it was asked to stop."""


@dataclass
class Cell:
    """One cell of a sweep.

    Attributes:
        number: place in the sweep.
        words: what tells it from the other cells.
        command: program and arguments.
        folder: where its summary and its log go.
        environment: variables laid over this process's own.
        trains: whether success means that it wrote a summary.
        modules: what it imports, where a fork server may run it; None where it has to be a process of its own.
    """

    number: int
    words: str
    command: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    trains: bool = True
    modules: tuple[str, ...] | None = None

    @property
    def log(self) -> Path:
        """Where everything that the cell prints goes."""
        return self.folder / LOG


@dataclass
class Ended:
    """What became of a cell: its summary, or why there is none."""

    summary: dict[str, Any]
    failure: str | None = None


class _Process(Protocol):
    pid: int
    returncode: int | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def terminate(self) -> None: ...


@dataclass
class _Running:
    cell: Cell
    slot: int
    process: _Process
    began: float


class Watcher:
    """Says when cells start and end; a display of another kind overrides it."""

    def started(self, cell: Cell, device: str | None) -> None:
        """Take note of a cell that starts, on the GPUs named by ``device``."""
        say(f"[{cell.number}] started{f' on GPU {device}' if device else ''}: {cell.words}")

    def ended(self, cell: Cell, outcome: Ended, seconds: float) -> None:
        """Take note of what became of a cell."""
        if outcome.failure:
            say(f"[{cell.number}] FAILED after {seconds:.0f} s: {outcome.failure.partition('] ')[2]}")
        else:
            arms = [f"{a} {Spread(**found)} %" for a, found in reversed(outcome.summary.get("accuracy", {}).items())]
            gave = ", ".join(arms) or outcome.summary.get("reason", "checked")
            say(f"[{cell.number}] done in {seconds:.0f} s: {gave}: {cell.words}")

    def moment(self, running: Sequence[Cell]) -> None:
        """Take note that time has passed."""


def run_cells(
    cells: Sequence[Cell],
    slots: Sequence[Mapping[str, str]],
    poll: float = 0.1,
    ready: Callable[[Cell, Sequence[Cell]], bool] = lambda cell, running: True,
    watcher: Watcher | None = None,
    forks: Forks | None = None,
) -> list[Ended]:
    """Run the processes of cells and return what became of each, in order; say when each starts and ends.

    Args:
        cells: what to run.
        slots: environment variables of each slot, see :func:`distill.slots.environments`; one cell at a time in each.
        poll: seconds between looks at the processes.
        ready: whether a cell can start beside those that run; it is asked again later, and not where none runs.
        watcher: what says how it goes.
        forks: keeps a fork server for later cells too; None for these alone.

    Raises:
        SystemExit: on SIGTERM, and KeyboardInterrupt on Ctrl-C, after every running cell was asked to stop and did.
    """
    watcher = watcher or Watcher()
    waiting, free = dict(enumerate(cells)), deque(range(len(slots)))
    running: dict[int, _Running] = {}
    ended: dict[int, Ended] = {}
    with _terminated_as_exit(), _forking(cells, slots, forks) as server:
        try:
            while waiting or running:
                while waiting and free:
                    beside = [found.cell for found in running.values()]
                    chosen = next((i for i, cell in waiting.items() if not beside or ready(cell, beside)), None)
                    if chosen is None:
                        break
                    slot = free.popleft()
                    running[chosen] = _start(waiting.pop(chosen), slot, slots, server)
                    watcher.started(running[chosen].cell, slots[slot].get("CUDA_VISIBLE_DEVICES"))
                for i in [i for i, found in running.items() if found.process.poll() is not None]:
                    over = running.pop(i)
                    free.append(over.slot)
                    ended[i] = _outcome(over)
                    watcher.ended(over.cell, ended[i], time.monotonic() - over.began)
                watcher.moment([found.cell for found in running.values()])
                time.sleep(poll)
        except BaseException:
            _stop([found.process for found in running.values()])
            raise
    failed = [i for i, outcome in ended.items() if outcome.failure]
    if failed:
        say(f"{len(failed)} of {len(cells)} cells failed:")
        for i in sorted(failed):
            say(f"  {ended[i].failure}; log: {cells[i].log}")
    return [ended[i] for i in range(len(cells))]


def say(text: str) -> None:
    """Write one line to the terminal."""
    print(text, file=sys.stderr, flush=True)


class Forks:
    """Keeps a fork server for the cells of one sweep after another, from when it first saves an import."""

    def __init__(self) -> None:
        self._server: ForkServer | None = None
        self._asked = 0

    def server(self, cells: Sequence[Cell], slots: Sequence[Mapping[str, str]]) -> ForkServer | None:
        """Return what forks cells; None where only one of all could be forked yet."""
        forked = [cell for cell in cells if cell.modules is not None]
        self._asked += len(forked)
        if forked and self._asked > 1 and (self._server is None or self._server.lost):
            modules = sorted({name for cell in forked for name in cell.modules or ()})
            self._server = ForkServer(modules, {**os.environ, **slots[0], **forked[0].environment})
        return self._server

    def close(self) -> None:
        """End the server; what it forked lives on."""
        if self._server is not None:
            self._server.close()


@contextmanager
def _forking(
    cells: Sequence[Cell], slots: Sequence[Mapping[str, str]], forks: Forks | None
) -> Iterator[ForkServer | None]:
    own = Forks()
    try:
        yield (forks or own).server(cells, slots)
    finally:
        own.close()


def _start(cell: Cell, slot: int, slots: Sequence[Mapping[str, str]], server: ForkServer | None = None) -> _Running:
    cell.folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, **slots[slot], **cell.environment}
    with cell.log.open("ab") as log:
        with suppress(OSError):  # held for as long as the cell lives, whatever becomes of this process
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log.truncate(0)
        if cell.modules is not None and server is not None and server.takes(environment):
            with suppress(ConnectionError):  # the server has ended; a process of its own does as well
                child = server.start(cell.command[len(PROGRAM) :], environment, log.fileno())
                return _Running(cell, slot, child, time.monotonic())
        # a session of its own: Ctrl-C reaches the cell once, through _stop, and its ranks can be ended with it
        process = subprocess.Popen(
            cell.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    return _Running(cell, slot, process, time.monotonic())


def is_running(folder: Path) -> bool:
    """Whether a process that :func:`run_cells` started in a folder is alive, even where that one is not."""
    try:
        with (folder / LOG).open("rb") as log:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _outcome(over: _Running) -> Ended:
    cell, code = over.cell, over.process.returncode
    summary = read_json(cell.folder / SUMMARY) or {}
    if code == 0 and (summary or not cell.trains):
        return Ended(summary)
    reason = f"wrote no {SUMMARY}" if code == 0 else f"exit code {code}: {last_line(cell.log)}"
    return Ended({}, f"[{cell.number}] {cell.words}: {reason}")


def last_line(path: Path) -> str:
    """Return the last line of a log that says something, shortened: mostly it is the error."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if "HYDRA_FULL_ERROR" not in line]  # Hydra's advice comes after the error
    return lines[-1][-300:] if lines else "it printed nothing"


@contextmanager
def _terminated_as_exit() -> Iterator[None]:
    """Turn SIGTERM into SystemExit while cells run, so that they are stopped before this process is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(processes: Sequence[_Process]) -> None:
    """Ask every running cell to write its checkpoint and end; a second interrupt ends them at once."""
    alive = [process for process in processes if process.poll() is None]
    say(f"stopping {len(alive)} cell(s); the same sweep run again goes on where they stopped")
    for process in alive:
        process.terminate()
    try:
        until = time.monotonic() + GRACE
        for process in alive:
            process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        pass
    finally:
        for process in alive:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
