"""bench epoch: an epoch of KD as the CIFAR-100 tables have it, loading included, beside public code doing the same."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from distill.bench import peers
from distill.bench.loops import framework
from distill.bench.measured import Measured, alternate
from distill.bench.work import PAIR, RECIPE, in_an_epoch, limited, prepare, sized

BF16 = "trainer.precision=bf16-mixed"
OURS: dict[str, tuple[float | None, list[str]]] = {
    "distill": (0.90, []),
    "distill, cached": (None, ["cache=on"]),
    "distill, bf16": (0.50, [BF16]),
    "distill, bf16, cached": (0.22, [BF16, "cache=on"]),
}
"""Target beside each peer, and overrides, of each way of ours to train."""


def measure(options: argparse.Namespace) -> Measured:
    """Time an epoch of 782 steps, by the wall, from so many of its steps.

    Inside are: starting the workers of a loader that has some, loading, augmentation, forward and backward passes,
    optimizer, and what each side logs and saves in a step and at the end of an epoch. Left out are: importing, making
    networks, reading the data, evaluation, and the first steps, which warm up. Our cache is full when it is timed.

    On a GPU (``trainer.accelerator=gpu``) each way of ours is also timed with recorded steps.
    """
    from distill.config import compose, resolved

    prepare(options)
    gpu = compose([*PAIR, *options.overrides])["trainer"]["accelerator"] in ("gpu", "cuda")
    steps, found = options.steps or (200 if gpu else 8), peers.named(options.peer)
    ours = {name: way for name, way in OURS.items() if BF16 not in way[1] or gpu or _computes_bf16()}
    if gpu:
        ours |= {f"{name}, graph": (None, [*own, "graph=true"]) for name, (_, own) in ours.items()}
    sides: dict[str, Callable[[], float]] = {}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, own) in ours.items():
            # one a way: what a cache holds depends on the precision of its teacher
            cached = [f"cache.folder={folder}/{name.replace(', ', '_')}"] if "cache=on" in own else []
            cfg = sized(compose([*PAIR, *RECIPE, *options.overrides, *own, *cached]), 1 + steps)
            sides[name] = partial(_ours, name, cfg, steps, losses)
        if found:
            images = Path(folder) / "images.npz"
            plain = resolved(cfg)
            _save(plain, 1 + steps, images)
            for name, clone in found.items():
                work = _work(plain, clone, steps, "cuda" if gpu else "cpu")
                sides[name] = partial(_peer, name, work, images, losses)
        rounds = alternate(sides, options.rounds)
    ratios: list[tuple[str, str, str, float | None]] = [
        (f"{name} / {peer}", name, peer, target) for peer in found for name, (target, _) in ours.items()
    ]
    ratios += [(f"{name} / distill", name, "distill", None) for name in ours if name != "distill"]
    notes = [f"mean loss of the steps: {', '.join(f'{name} {loss:.4f}' for name, loss in losses.items())}"]
    if len(ours) < len(OURS):
        notes.append("bf16 is left out: this processor has no instructions for it, and emulates it many times slower")
    if found:
        notes.append("workers of the loaders: mdistiller 2, RepDistiller 8, torchdistill 16, as they come; ours none")
    title = f"epoch: CE + KD, loading, augmentation and logging included, {steps} steps timed"
    return Measured(title, "ms a step", rounds, ratios, notes)


def _computes_bf16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _ours(name: str, cfg: dict[str, Any], steps: int, losses: dict[str, float]) -> float:
    def train(count: int) -> float:
        timed = framework(limited(cfg, count), time.perf_counter)
        losses[name] = timed.loss
        return timed.seconds

    return in_an_epoch(train, steps)


def _peer(name: str, work: peers.Work, images: Path, losses: dict[str, float]) -> float:
    milliseconds, losses[name] = peers.ask(name, work, images)
    return milliseconds


def _work(plain: dict[str, Any], clone: str, steps: int, device: str) -> peers.Work:
    """Return what a peer is asked to train: the networks of a resolved config, in its batches."""
    import torch

    teacher = next(iter(plain["teacher"].values()))["network"]
    size, threads = plain["dataset"]["batch_size"], torch.get_num_threads()
    return peers.Work(clone, plain["student"], teacher, size, steps, threads, device)


def _save(plain: dict[str, Any], batches: int, path: Path) -> None:
    """Write the first images of the training split as torchvision has them."""
    import numpy as np
    import torch

    from distill.assemble import make_data

    split = make_data(plain).splits["train"]
    index = torch.arange(min(batches * plain["dataset"]["batch_size"], len(split)))
    np.savez(path, images=split.gather(index).permute(0, 2, 3, 1).numpy(), targets=split.target[index].numpy())
