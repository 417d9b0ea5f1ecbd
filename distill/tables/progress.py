"""Shows how the cells of a table go: a live display on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from distill.cells import Cell, Ended, Watcher, last_line


def duration(seconds: float) -> str:
    """Return a time as people say it: 45 s, 12 min, 3.5 h, 2.1 days."""
    for size, unit, digits in ((86400, "days", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


class Counter(Watcher):
    """Counts cells and says after each how many are done and when the others will be.

    Args:
        total: cells of the table that were asked for.
        done: of these, how many were finished before.
        slots: cells at a time.
    """

    def __init__(self, total: int, done: int, slots: int) -> None:
        self.total, self.done, self.slots, self.failed = total, done, slots, 0
        self.seconds: list[float] = []

    def ended(self, cell: Cell, outcome: Ended, seconds: float) -> None:
        """Count a cell and say what became of it."""
        self.count(outcome, seconds)
        super().ended(cell, outcome, seconds)
        print(f"    {self.line()}", file=sys.stderr, flush=True)

    def count(self, outcome: Ended, seconds: float) -> None:
        """Count a cell that ended."""
        self.seconds.append(seconds)
        if outcome.failure:
            self.failed += 1
        else:
            self.done += 1

    def line(self, running: int = 0) -> str:
        """Return one line: cells done, running, failed, and the time that the others will take."""
        left = self.total - self.done - self.failed
        parts = [f"{self.done} of {self.total} cells done"]
        parts += [f"{running} running"] * bool(running) + [f"{self.failed} failed"] * bool(self.failed)
        if left and self.seconds:
            mean = sum(self.seconds) / len(self.seconds)
            parts.append(f"about {duration(left * mean / min(self.slots, left))} left")
        return ", ".join(parts)


class Display(Counter):
    """Redraws counts and running cells in place; what failed scrolls by above them."""

    def __init__(self, total: int, done: int, slots: int) -> None:
        super().__init__(total, done, slots)
        self._live = Live(console=Console(stderr=True), refresh_per_second=2, transient=False)
        self._began: dict[str, float] = {}
        self._last = 0.0

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def started(self, cell: Cell, device: str | None) -> None:
        """Take note of when a cell started."""
        self._began[cell.words] = time.monotonic()

    def ended(self, cell: Cell, outcome: Ended, seconds: float) -> None:
        """Count a cell; a failure stays on the screen."""
        self.count(outcome, seconds)
        if outcome.failure:
            self._live.console.print(Text(f"FAILED after {duration(seconds)}: {outcome.failure}", style="red"))

    def moment(self, running: Sequence[Cell]) -> None:
        """Redraw, twice a second at most."""
        now = time.monotonic()
        if now - self._last < 0.5:
            return
        self._last = now
        grid = Grid.grid(padding=(0, 2))
        for cell in running:
            said = last_line(cell.log)[:80] if cell.log.exists() else ""
            grid.add_row(f"  {cell.words}", duration(now - self._began[cell.words]), Text(said, style="dim"))
        self._live.update(Group(Text(self.line(len(running)), style="bold"), grid))


def watcher(total: int, done: int, slots: int) -> Counter:
    """Return the display that fits where standard error goes."""
    return (Display if sys.stderr.isatty() else Counter)(total, done, slots)
