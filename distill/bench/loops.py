"""An epoch of CE + KD with the framework and all that is beside it, and the same written by hand; both timed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Timed(NamedTuple):
    """What an epoch took, and what it gave."""

    seconds: float
    steps: int
    loss: float


def clock() -> float:
    """Return seconds: of the processor with one thread, where other programs do not count, else of the wall."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def framework(cfg: dict[str, Any], now: Callable[[], float] = clock) -> Timed:
    """Train one epoch with the framework: logging, metrics.csv and checkpoint on, no evaluation."""
    import pytorch_lightning as pl

    from distill import training
    from distill.assemble import assemble
    from distill.config import resolved
    from distill.progress import Bar, Lines

    class Clock(pl.Callback):
        seconds = 0.0

        def on_train_start(self, *_: Any) -> None:
            self.seconds = now()

        def on_train_end(self, *_: Any) -> None:
            self.seconds = now() - self.seconds

    plain = resolved({**cfg, "trainer": {**cfg["trainer"], "check_val_every_n_epoch": 2}, "quiet": True})
    plain["teacher"] = built(plain["teacher"])
    with tempfile.TemporaryDirectory() as folder:
        parts = assemble(plain, caches=True)
        trainer = training.make_trainer(plain, parts, Path(folder), {}, "bench")
        watch = Clock()
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [watch, *(callback for callback in callbacks if not isinstance(callback, Bar | Lines))]
        parts.data.pace = training.pace(plain, parts, trainer.strategy.root_device)
        trainer.fit(parts.module, parts.data)
    return Timed(watch.seconds, trainer.global_step, parts.module.history[0]["train/loss"])


def bare(cfg: dict[str, Any], steps: int) -> Timed:
    """Train so many steps of CE + KD as one would write it by hand, data included."""
    import torch
    from torch.nn import functional as F

    from distill.assemble import assemble, make_network
    from distill.config import resolved

    plain = resolved(cfg)
    plain["teacher"] = built(plain["teacher"])
    teacher = make_network(next(iter(plain["teacher"].values()))["network"], "teacher", None).eval()
    parts = assemble({**plain, "channels_last": False})
    student = parts.student.network.train()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (parts.data.mean, parts.data.std))
    settings = {k: v for k, v in plain["optimizer"].items() if k not in ("_target_", "fused")}
    optimizer = torch.optim.SGD(student.parameters(), **settings)
    temperature = parts.objective.values.get("kd.temperature", 4.0)
    ce, kd = parts.objective.weights["ce"], parts.objective.weights["kd"]
    split, augment, size = parts.data.splits["train"], parts.data.augment, parts.data.batch_size
    pixels, target = split.gather(torch.arange(len(split))), split.target
    total = correct = torch.zeros(())
    began = clock()
    for index in torch.randperm(len(target)).split(size)[:steps]:
        images = pixels[index]
        if augment is not None:
            images = augment(images, 0, torch.zeros_like(index), index)
        x = (images.float() / 255 - mean) / std
        with torch.inference_mode():
            told = teacher(x)
        logits = student(x)
        soft = F.kl_div(F.log_softmax(logits / temperature, 1), F.softmax(told / temperature, 1), reduction="batchmean")
        loss = ce * F.cross_entropy(logits, target[index]) + kd * temperature**2 * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = total + loss.detach()
        correct = correct + (logits.argmax(1) == target[index]).sum()
    return Timed(clock() - began, steps, float(total) / steps)


def built(teachers: dict[str, Any]) -> dict[str, Any]:
    """Return teachers with the weights that they are made with, for what they know does not change what they cost."""
    return {name: {**node, "checkpoint": "built"} for name, node in teachers.items()}
