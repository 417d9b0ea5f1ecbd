"""What the terminal shows of a training: a bar for people, a few lines for logs.

Both are ``Checkpoint`` by type, because Lightning calls those after the module has closed its epoch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

SHOWN = ("val/accuracy", "test/accuracy")


def _news(module: Any) -> str:
    row = module.history[-1] if module.history else {}
    parts = [f"loss {row['train/loss']:.3f}"] if row else []
    parts += [f"{key.partition('/')[0]} {row[key]:.1f}" for key in SHOWN if key in row]
    parts += [f"T {v:.2f}" for k, v in module.objective.values.items() if k.endswith("temperature")][:1]
    return " ".join(parts)


class Bar(Checkpoint):
    """One line with a bar for a training; moves at most five times a second, and reads nothing from the device."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.progress = Progress(
                TextColumn("{task.description:<25}"),
                BarColumn(6),
                MofNCompleteColumn(),
                TextColumn("{task.elapsed:.0f}s"),
                TextColumn("{task.fields[news]}"),
                refresh_per_second=5,
            )
            self.progress.start()
            self.task = self.progress.add_task(
                self.title, total=trainer.max_epochs, completed=trainer.current_epoch, news=""
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=trainer.current_epoch + 1, news=_news(pl_module))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.progress is not None:
            self.progress.update(self.task, completed=trainer.current_epoch, news=_news(pl_module))
            self.progress.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.progress is not None:
            self.progress.stop()


class Lines(Checkpoint):
    """Ten lines a training at most, for logs."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done, epochs = trainer.current_epoch + 1, trainer.max_epochs or 1
        if trainer.is_global_zero and done * 10 // epochs > (done - 1) * 10 // epochs:
            seconds = perf_counter() - self.began
            print(
                f"{self.title}: epoch {done}/{epochs}  {_news(pl_module)}  {seconds:.1f} s", file=sys.stderr, flush=True
            )


@contextmanager
def filling(name: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Give what shows how far the cache of a teacher is filled: a bar for people, ten lines for logs."""
    if quiet:
        tenths = [0]

        def line(done: int, total: int) -> None:
            if done * 10 // total > tenths[0]:
                tenths[0] = done * 10 // total
                print(f"teacher {name}: {done:,} of {total:,} answers", file=sys.stderr, flush=True)

        yield line
        return
    with Progress(console=Console(stderr=True), refresh_per_second=5) as bar:
        task = bar.add_task(f"teacher {name}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
