"""What several benchmarks have in common: configs, an epoch from a few of its steps, a series of trainings."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

from torch import nn

from distill.bench.loops import built, clock
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
