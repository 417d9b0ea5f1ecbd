"""A small declared table and the records of cells, as the tests of tables write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.tables import spec
from distill.tables.spec import Cell, Table
from distill.tables.store import Store

YAML = """
title: A table
rule: last
baseline: kd
seeds: 2
overrides: [trainer.max_epochs=3]
smoke: [trainer.max_epochs=1]
columns:
  digits: {title: Digits}
  wide: {title: Wide, overrides: [student.width=32]}
rows:
  teacher: {title: Teacher, arm: teacher}
  alone: {title: Alone, arm: alone}
  kd: {title: KD, overrides: [loss.kd.weight=0.9]}
  matched: {title: Matched, matched: {of: kd, temperature: 4}}
cells:
  kd: {wide: [optimizer.lr=0.2]}
left_out:
  matched: {wide: too dear}
sources:
  paper: {title: A paper, rule: last}
published:
  - {source: paper, row: kd, values: {digits: 95.5, wide: 96}}
"""


def declare(folder: Path, text: str = YAML) -> Table:
    """Write table.yaml into a folder and read it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.yaml").write_text(text)
    return spec.load(folder)


def record(seed: int, label: str, fingerprint: str, last: float, teacher: str = "", **more: Any) -> dict[str, Any]:
    """Return a complete record with three epochs."""
    history = [
        {"epoch": e, "step": 4 * e, "seconds": 0.1 * e, "loss/ce": 2 / e, "test/accuracy": last - 3 + e}
        for e in (1, 2, 3)
    ]
    return {
        "status": "complete", "label": label, "fingerprint": fingerprint, "finished": "2026-01-02T03:04:05+00:00",
        "overrides": ["trainer.max_epochs=3", "out=runs"], "params": 5178, "flops": 166528, "epochs": 3, "steps": 12,
        "seconds": 0.123456, "device": "cpu, 1 threads", "machine": "x86_64, 2 cores", "code": "0e3cb57d3b",
        "git": {"sha": "5fdc9cf79ecf1180200e0c134905f2fff5a7f951", "dirty": True}, "versions": {"torch": "2.15.0"},
        "accuracy": {"last": last, "best_on_test": last + 0.25, "val_chosen": last - 0.5, "val": 80.0},
        "test": {"agreement": 90.123456, "nll": 0.3456789, "ece": 1.23456, "by_class": [100.0, 33.333333, None]},
        "history": history,
        "config": {"seed": seed, "teacher": {"big": {"checkpoint": teacher}} if teacher else {}},
        **more,
    }  # fmt: skip


def finish(store: Store, cell: Cell, last: float, **more: Any) -> Path:
    """Write what `distill train` leaves of one cell; return the folder of its run."""
    arm = store.table.row(cell.row).arm
    name = f"digits-{cell.row}-{cell.column}-s{cell.seed}"
    run, big = store.out / f"{name}-{cell.seed}{cell.row}{cell.column}", store.out / "digits-big-alone-s0-ffff"
    for folder in (run, big):
        folder.mkdir(parents=True, exist_ok=True)
    (big / "result.json").write_text(json.dumps(record(0, "digits-big-alone-s0", "ffff", 99.0)))
    taught = "" if arm == "alone" else f"runs/{big.name}/student.safetensors"
    made = record(cell.seed, name, run.name.rpartition("-")[2], last, taught, **more)
    (run / "result.json").write_text(json.dumps(made))
    summary = {"overrides": [*store.overrides(cell), f"out={store.out}"], "folders": {arm: [f"runs/{run.name}"]}}
    store.folder(cell).mkdir(parents=True, exist_ok=True)
    (store.folder(cell) / "summary.json").write_text(json.dumps(summary))
    return run
