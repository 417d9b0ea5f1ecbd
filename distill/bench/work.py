"""The work that several benchmarks time: a training with everything beside it, and the same written by hand."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from distill.data.images import Images
from distill.data.synthetic import Synthetic

COMMON = ["dataset=synthetic", "dataset.val_fraction=0", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
CIFAR = [*COMMON, "dataset.num_classes=100"]
PAIR = [*CIFAR, "student=resnet8x4", "teacher=[resnet32x4]"]
"""A pair of the CIFAR-100 tables on images made on the spot, for one epoch."""
RECIPE = [
    "recipe=cifar_crd", "trainer.max_epochs=1", "loss.ce.weight=0.1", "loss.kd.weight=0.9",
    "dataset.augment={_target_:distill.data.augment.CropFlip,padding:4,flip:true}",
]  # fmt: skip
"""What the CIFAR-100 tables train KD with."""
EPOCH = 782
"""Steps of an epoch of CIFAR-100 in batches of 64."""


class Timed(NamedTuple):
    """What an epoch took, and what it gave."""

    seconds: float
    steps: int
    loss: float


@dataclass(kw_only=True, eq=False, repr=False)
class TrainOnly(Synthetic):
    """Synthetic images with one to test on, where training is what is timed."""

    def read(self) -> tuple[Images, Images]:
        """Return the two splits."""
        return self._make(self.samples, 0), self._make(1, 1)


def perceptron(hidden: int, num_classes: int) -> nn.Module:
    """Return a network on 8x8 pixels whose step is about as short as steps get."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


def prepare(options: argparse.Namespace) -> None:
    """Set the threads that were asked for, and keep Lightning's advice out of the output."""
    import torch

    from distill.training import quiet_lightning

    quiet_lightning()
    if options.threads:
        torch.set_num_threads(options.threads)


def clock() -> float:
    """Return seconds: of the processor with one thread, where other programs do not count, else of the wall."""
    import torch

    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def sized(cfg: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return a config with images for so many steps, and some of every class, where they are made on the spot."""
    data = cfg["dataset"]
    if "samples" in data:
        data = {**data, "samples": max(steps * data["batch_size"], data["num_classes"])}
    return {**cfg, "dataset": data}


def limited(cfg: dict[str, Any], steps: int) -> dict[str, Any]:
    """Return a config whose epoch has so many steps."""
    return {**cfg, "trainer": {**cfg["trainer"], "limit_train_batches": steps}}


def in_an_epoch(train: Callable[[int], float], steps: int) -> float:
    """Return milliseconds a step in an epoch of 782, from one epoch of a step and one of ``steps`` more.

    So what an epoch costs once, such as starting workers and a checkpoint, counts as it does in a whole one.

    Args:
        train: trains an epoch of so many steps and returns its seconds.
        steps: that are timed.
    """
    first = train(1)
    step = (train(1 + steps) - first) / steps
    return 1e3 * (first - step + EPOCH * step) / EPOCH


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


def series(configs: Sequence[dict[str, Any]], together: bool) -> tuple[float, list[float]]:
    """Train several configs, one after the other or in turns; return the seconds, all included, and the last losses."""
    from distill.config import resolved
    from distill.fit import fit
    from distill.together import fit_together

    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            (resolved({**cfg, "teacher": built(cfg["teacher"]), "out": folder, "quiet": True}), f"bench {number}")
            for number, cfg in enumerate(configs)
        ]
        with redirect_stderr(StringIO()):  # a line an epoch
            began = clock()
            found = fit_together(jobs, []) if together else [fit(cfg, [], title) for cfg, title in jobs]
            seconds = clock() - began
    for record in found:
        if isinstance(record, BaseException):
            raise record
    return seconds, [record["history"][-1]["train/loss"] for record in found if not isinstance(record, BaseException)]


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
