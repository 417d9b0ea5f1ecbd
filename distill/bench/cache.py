"""bench cache: looking answers up in a store, against taking the same records from a bare memory map."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.bench.measured import Measured, alternate

SAMPLES, VIEWS, CLASSES = 50_000, 8, 100
SIZES = (64, 3200)
"""Samples looked up at once: a batch, and the fifty batches that are fetched together."""


def measure(options: argparse.Namespace) -> Measured:
    """Time random look-ups of float16 logits in a full store; microseconds a sample, pages in memory."""
    import numpy as np
    import torch

    from distill.cache.manifest import Manifest
    from distill.cache.store import Store

    torch.set_num_threads(options.threads or 1)
    looks = options.steps or 50
    generator = torch.Generator().manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        fields = {"logits": ("float16", CLASSES)}
        manifest = Manifest({}, {}, "bench", None, SAMPLES, VIEWS, CLASSES, None, fields)
        store = Store.open(Path(folder) / "store", manifest, say=lambda text: None)
        bare = Path(folder) / "bare.bin"
        plain = np.memmap(bare, np.float16, "w+", shape=(store.slots, CLASSES))
        for view in range(VIEWS):
            slots = torch.arange(SAMPLES) + view * SAMPLES
            logits = torch.randn(SAMPLES, CLASSES, generator=generator)
            store.put(slots, {"logits": logits})
            plain[slots.numpy()] = logits.numpy()
        mapped = np.memmap(bare, np.float16, "r", shape=(store.slots, CLASSES))
        sides: dict[str, Callable[[], float]] = {}
        for size in SIZES:
            sides[f"store, {size} samples"] = lambda size=size: _time(store.look, size, looks, store.slots)  # type: ignore[misc]
            sides[f"bare map, {size} samples"] = lambda size=size: _time(  # type: ignore[misc]
                lambda slots: torch.from_numpy(mapped[slots.numpy()]).float(), size, looks, store.slots
            )
        rounds = alternate(sides, options.rounds)
    ratios: list[tuple[str, str, str, float | None]] = [
        (f"ratio, {size} samples", f"store, {size} samples", f"bare map, {size} samples", None) for size in SIZES
    ]
    title = f"cache: {CLASSES} classes in float16, {SAMPLES:,} x {VIEWS} records, {looks} look-ups a round"
    return Measured(
        title, "us a sample", rounds, ratios, ["the store also verifies every record; the aim is 2 us a sample"]
    )


def _time(look: Callable[[Any], object], size: int, looks: int, slots: int) -> float:
    """Return microseconds a sample, median of look-ups at random slots."""
    import torch

    generator = torch.Generator().manual_seed(size)
    taken = []
    for _ in range(looks):
        wanted = torch.randint(0, slots, (size,), generator=generator)
        began = time.perf_counter()
        look(wanted)
        taken.append(time.perf_counter() - began)
    return 1e6 * sorted(taken)[looks // 2] / size
