"""Estimates what the missing cells of a table cost: from finished ones, else from FLOPs at a measured rate."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from distill.config import Config, resolved
from distill.tables import results
from distill.tables.checking import Configs
from distill.tables.results import Entry
from distill.tables.spec import Cell
from distill.tables.store import Store

if TYPE_CHECKING:
    import torch

    from distill.assemble import Parts

PASSES = 3
"""Forward passes that a step of training is worth: one forward, and a backward of two."""


class Cost(NamedTuple):
    """Seconds of one training, None where nothing tells; and how that was found."""

    seconds: float | None
    how: str


def costs(store: Store, todo: Sequence[Cell], configs: Configs) -> dict[Cell, Cost]:
    """Return what each cell will cost, the training of its teacher not included.

    Args:
        store: the table and its folders.
        todo: cells to run.
        configs: composed configs of the cells.
    """
    entries = results.read(store.table.folder)[0] + _here(store)
    known: dict[tuple[str, str], Cost] = {}
    for cell in todo:
        at = cell.row, cell.column
        if at not in known:
            known[at] = _known(entries, *at) or _estimated(configs.of(cell))
    return {cell: known[cell.row, cell.column] for cell in todo}


def _here(store: Store) -> list[Entry]:
    from distill.tables.collect import records

    return records(store, []).entries


def _known(entries: Sequence[Entry], row: str, column: str) -> Cost | None:
    """Return the mean time of the same cell's other seeds, else of the column's other rows."""
    students = [entry for entry in entries if entry.arm != "teacher" and entry.column == column]
    same = [entry.seconds for entry in students if entry.row == row]
    for seconds, how in ((same, "other seeds"), ([e.seconds for e in students], "other rows of the column")):
        if seconds:
            return Cost(statistics.fmean(seconds), f"measured: mean of {len(seconds)} from {how}")
    return None


def _estimated(config: Config | None) -> Cost:
    """Return FLOPs x images x epochs at the rate that this machine reaches now with the same student."""
    if config is None:
        return Cost(None, "its config does not compose")
    import torch

    from distill.assemble import assemble

    cfg = resolved(config)
    try:
        parts = assemble(cfg)
        images = len(parts.data.splits["train"])
    except Exception as error:  # data or weights that are not here: then nobody can tell
        return Cost(None, f"unknown: {' '.join(str(error).split())[:200]}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step, rate = _measured(parts, device)
    work = step * images * cfg["trainer"]["max_epochs"]
    return Cost(work / rate, f"estimate: {work:.2g} FLOPs at {rate:.2g} FLOP/s, measured now on {device.type}")


def _measured(parts: Parts, device: torch.device, least: float = 0.3) -> tuple[int, float]:
    """Return FLOPs of a training step for one image, teachers included, and FLOPs a second of the student's steps.

    Args:
        parts: of a training.
        device: where it will run.
        least: seconds that the steps are timed for.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from distill.outputs import Batch
    from distill.training import flops_of

    shape = (parts.data.channels, *parts.data.image_size)
    index = torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        for teacher in parts.teachers.values():
            teacher(Batch(torch.zeros(1, *shape, dtype=torch.uint8), index, index, index))
    own = PASSES * flops_of(parts.student, shape)
    student = parts.student.to(device).train()
    images = torch.zeros(min(parts.data.batch_size, 64), *shape, dtype=torch.uint8, device=device)
    times: list[float] = []
    while len(times) < 2 or sum(times[1:]) < least:  # the first warms up
        began = perf_counter()
        student(images).logits.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - began)
    return own + counter.get_total_flops(), own * len(images) * (len(times) - 1) / sum(times[1:])
