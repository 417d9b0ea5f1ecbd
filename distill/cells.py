"""Cells of a sweep as processes: as many at a time as there are slots; one that fails does not stop another."""

from __future__ import annotations

import fcntl
import os
import shutil
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
from typing import Any

from distill.records import read_json
from distill.results import SUMMARY, Spread

LOG = "job.out"
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
    """

    number: int
    words: str
    command: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    trains: bool = True

    @property
    def log(self) -> Path:
        """Where everything that the cell prints goes."""
        return self.folder / LOG


@dataclass
class Ended:
    """What became of a cell: its summary, or why there is none."""

    summary: dict[str, Any]
    failure: str | None = None


@dataclass
class _Running:
    cell: Cell
    slot: int
    process: subprocess.Popen[bytes]
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
) -> list[Ended]:
    """Run the processes of cells and return what became of each, in order; say when each starts and ends.

    Args:
        cells: what to run.
        slots: environment variables of each slot, see :func:`environments`; one cell at a time in each.
        poll: seconds between looks at the processes.
        ready: whether a cell can start beside those that run; it is asked again later, and not where none runs.
        watcher: what says how it goes.

    Raises:
        SystemExit: on SIGTERM, and KeyboardInterrupt on Ctrl-C, after every running cell was asked to stop and did.
    """
    watcher = watcher or Watcher()
    waiting, free = dict(enumerate(cells)), deque(range(len(slots)))
    running: dict[int, _Running] = {}
    ended: dict[int, Ended] = {}
    with _terminated_as_exit():
        try:
            while waiting or running:
                while waiting and free:
                    beside = [found.cell for found in running.values()]
                    chosen = next((i for i, cell in waiting.items() if not beside or ready(cell, beside)), None)
                    if chosen is None:
                        break
                    slot = free.popleft()
                    running[chosen] = _start(waiting.pop(chosen), slot, slots)
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


def _start(cell: Cell, slot: int, slots: Sequence[Mapping[str, str]]) -> _Running:
    cell.folder.mkdir(parents=True, exist_ok=True)
    with cell.log.open("ab") as log:
        with suppress(OSError):  # held for as long as the cell lives, whatever becomes of this process
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log.truncate(0)
        # a session of its own: Ctrl-C reaches the cell once, through _stop, and its ranks can be ended with it
        process = subprocess.Popen(
            cell.command, env={**os.environ, **slots[slot], **cell.environment}, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
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


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
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
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def environments(slots: Any) -> list[dict[str, str]]:
    """Return the environment variables of each slot.

    A number of slots shares out the visible GPUs: with more GPUs than slots each gets several, with fewer, slots share.

    Args:
        slots: number of cells at a time; or one ``CUDA_VISIBLE_DEVICES`` value for each; None for one cell per GPU.

    Raises:
        ValueError: when ``slots`` is neither.
    """
    gpus = visible_gpus()
    if slots is None:
        slots = len(gpus) or 1
    devices: list[str | None]
    if isinstance(slots, int) and not isinstance(slots, bool) and slots > 0:
        devices = [",".join(gpus[i::slots] or [gpus[i % len(gpus)]]) if gpus else None for i in range(slots)]
    elif isinstance(slots, Sequence) and not isinstance(slots, str) and len(slots):
        devices = [str(value) for value in slots]
    else:
        raise ValueError(f"hydra.launcher.slots={slots}: give a number of cells at a time, or a list such as [0,1]")
    common = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ else {}
    if len(devices) > 1 and "OMP_NUM_THREADS" not in os.environ:
        common["OMP_NUM_THREADS"] = str(max(1, cores() // len(devices)))
    return [common | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device}) for device in devices]


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, without importing torch."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    ask = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []
