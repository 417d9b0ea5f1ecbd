"""bench step: the framework's step, with everything it does beside it, against a bare loop of the same work."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from distill.bench.measured import Measured, alternate

COMMON = ["dataset=synthetic", "dataset.val_fraction=0", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
TINY = [*COMMON, "dataset.image_size=[8,8]", "dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.25]"]
CIFAR = [*COMMON, "dataset.num_classes=100"]
CASES = {
    "1 ms": (800, 1.15, [*TINY, "student=digits_tiny", "teacher=[digits_cnn]", "teacher.digits_cnn.network.width=8",
                         "dataset.batch_size=16"]),
    "5 ms": (200, 1.05, [*TINY, "student=digits_tiny", "teacher=[digits_cnn]", "student.width=32",
                         "dataset.batch_size=64"]),
    "resnet8x4": (8, 1.01, [*CIFAR, "student=resnet8x4", "teacher=[resnet32x4]", "dataset.batch_size=64"]),
}  # fmt: skip
"""Steps of an epoch, target and config of each case."""


def measure(options: argparse.Namespace) -> Measured:
    """Time an epoch of the framework against the same work written by hand, for a short, a middling and a long step.

    With overrides it is one case: resnet56 teaching resnet20 on synthetic images, as the overrides change it.
    """
    import torch

    from distill.config import compose
    from distill.training import quiet_lightning

    quiet_lightning()
    if options.threads:
        torch.set_num_threads(options.threads)
    cases = CASES
    if options.overrides:
        base = [*CIFAR, "student=resnet20", "teacher=[resnet56]", "dataset.batch_size=64", *options.overrides]
        cases = {"step": (20, 1.0, base)}
    sides: dict[str, Callable[[], float]] = {}
    ratios: list[tuple[str, str, str, float | None]] = []
    for name, (count, target, overrides) in cases.items():
        steps = options.steps or count
        cfg = compose(overrides)
        cfg["dataset"]["samples"] = steps * cfg["dataset"]["batch_size"]
        sides[f"{name}: bare loop"] = partial(_bare, cfg, steps)
        sides[f"{name}: distill"] = partial(_framework, cfg)
        ratios.append((f"{name}: ratio", f"{name}: distill", f"{name}: bare loop", target))
    return Measured("step: CE + KD, logging, metrics.csv and checkpoint on", "ms a step",
                    alternate(sides, options.rounds), ratios)  # fmt: skip


def clock() -> float:
    """Return seconds: of the processor with one thread, where other programs do not count, else of the wall."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def _framework(cfg: dict[str, Any]) -> float:
    """Train one epoch with the framework; return milliseconds a step."""
    import pytorch_lightning as pl

    from distill import training
    from distill.assemble import assemble
    from distill.config import resolved
    from distill.progress import Bar, Lines

    class Clock(pl.Callback):
        seconds = 0.0

        def on_train_start(self, *_: Any) -> None:
            self.seconds = clock()

        def on_train_end(self, *_: Any) -> None:
            self.seconds = clock() - self.seconds

    plain = resolved({**cfg, "trainer": {**cfg["trainer"], "check_val_every_n_epoch": 2}, "quiet": True})
    plain["teacher"] = _built(plain["teacher"])
    with tempfile.TemporaryDirectory() as folder:
        parts = assemble(plain)
        trainer = training.make_trainer(plain, parts, Path(folder), {}, "bench")
        watch = Clock()
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [watch, *(callback for callback in callbacks if not isinstance(callback, Bar | Lines))]
        parts.data.pace = training.pace(plain, parts, trainer.strategy.root_device)
        trainer.fit(parts.module, parts.data)
    return 1e3 * watch.seconds / trainer.global_step


def _bare(cfg: dict[str, Any], steps: int) -> float:
    """Train so many steps of CE + KD as one would write it by hand, data included; return milliseconds a step."""
    import torch
    from torch.nn import functional as F

    from distill.assemble import assemble, make_network
    from distill.config import resolved

    plain = resolved(cfg)
    plain["teacher"] = _built(plain["teacher"])
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
    return 1e3 * (clock() - began) / steps


def _built(teachers: dict[str, Any]) -> dict[str, Any]:
    return {name: {**node, "checkpoint": "built"} for name, node in teachers.items()}
