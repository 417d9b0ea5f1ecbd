"""bench step: the framework's step, with everything it does beside it, against a bare loop of the same work."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from distill.bench.measured import Measured, alternate


def measure(options: argparse.Namespace) -> Measured:
    """Time the framework's step against the same work written by hand.

    The default is resnet56 teaching resnet20 with KD on synthetic 32x32 images.
    """
    from distill.config import compose
    from distill.training import quiet_lightning

    quiet_lightning()
    steps = options.steps or 20
    defaults = [
        "dataset=synthetic", "dataset.val_fraction=0", "dataset.image_size=[32,32]", "dataset.channels=3",
        "dataset.num_classes=100", f"dataset.samples={64 * steps}", "dataset.batch_size=64",
        "student=resnet20", "teacher=[resnet56]",
        "trainer.max_epochs=1", "trainer.accelerator=cpu", f"trainer.limit_train_batches={steps}",
    ]  # fmt: skip
    cfg = compose([*defaults, *options.overrides])
    rounds = alternate(
        {"bare loop": lambda: 1e3 * _bare(cfg, steps), "distill": lambda: 1e3 * _framework(cfg)}, options.rounds
    )
    title = f"step: {' '.join(options.overrides) or 'resnet56 -> resnet20, KD, batch 64, 32x32'}, {steps} steps a round"
    return Measured(title, "ms a step", rounds, [("ratio", "distill", "bare loop", None)])


def _framework(cfg: dict[str, Any]) -> float:
    """Train one epoch with the framework; return seconds a step."""
    import pytorch_lightning as pl

    from distill import training
    from distill.assemble import assemble
    from distill.config import resolved
    from distill.progress import Bar, Lines

    class Clock(pl.Callback):
        seconds = 0.0

        def on_train_start(self, *_: Any) -> None:
            self.seconds = time.perf_counter()

        def on_train_end(self, *_: Any) -> None:
            self.seconds = time.perf_counter() - self.seconds

    plain = resolved({**cfg, "trainer": {**cfg["trainer"], "check_val_every_n_epoch": 2}, "quiet": True})
    plain["teacher"] = _built(plain["teacher"])
    with tempfile.TemporaryDirectory() as folder:
        parts = assemble(plain)
        trainer = training.make_trainer(plain, parts, Path(folder), {}, "bench")
        clock = Clock()
        shown = (Bar, Lines)
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        callbacks[:] = [clock, *(callback for callback in callbacks if not isinstance(callback, shown))]
        parts.data.pace = training.pace(plain, parts, trainer.strategy.root_device)
        trainer.fit(parts.module, parts.data)
    return clock.seconds / trainer.global_step


def _bare(cfg: dict[str, Any], steps: int) -> float:
    """Train so many steps of CE + KD as one would write it by hand, data included; return seconds a step."""
    import torch
    from torch.nn import functional as F

    from distill.assemble import assemble
    from distill.config import resolved

    plain = resolved(cfg)
    plain["teacher"] = _built(plain["teacher"])
    parts = assemble(plain)
    student = parts.student.network.train()
    teacher = next(iter(parts.teachers.values())).network  # type: ignore[attr-defined]
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (parts.data.mean, parts.data.std))
    optimizer = parts.module.optimizer_factory(student.parameters())
    temperature = parts.objective.values.get("kd.temperature", 4.0)
    ce, kd = parts.objective.weights["ce"], parts.objective.weights["kd"]
    split, augment, size = parts.data.splits["train"], parts.data.augment, parts.data.batch_size
    pixels, target = split.gather(torch.arange(len(split))), split.target
    total = correct = torch.zeros(())
    began = time.perf_counter()
    done = 0
    while done < steps:
        order = torch.randperm(len(target))
        for index in order.split(size)[: steps - done]:
            done += 1
            images = pixels[index]
            if augment is not None:
                images = augment(images, 0, torch.zeros_like(index), index)
            x = (images.float() / 255 - mean) / std
            with torch.inference_mode():
                told = teacher(x)
            logits = student(x)
            soft = F.kl_div(
                F.log_softmax(logits / temperature, 1), F.softmax(told / temperature, 1), reduction="batchmean"
            )
            loss = ce * F.cross_entropy(logits, target[index]) + kd * temperature**2 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss.detach()
            correct = correct + (logits.argmax(1) == target[index]).sum()
    return (time.perf_counter() - began) / done


def _built(teachers: dict[str, Any]) -> dict[str, Any]:
    return {name: {**node, "checkpoint": "built"} for name, node in teachers.items()}
