"""A table with invented numbers, for the tests of rendering only."""

from __future__ import annotations

import math
import random
import shlex
from pathlib import Path
from typing import Any

from distill.tables.results import Entry, Epoch
from distill.tables.spec import Cell, Line, Published, Source, Table

EVIL = "<script>alert(1)</script></script><img src=x onerror=alert(2)><!--"
ROWS = (
    Line("teacher", "Teacher", arm="teacher"),
    Line("alone", "Student alone", arm="alone"),
    Line("kd", "KD", ("loss=[ce,kd]",), note="T = 4"),
    Line("dkd", "DKD", ("loss=[ce,dkd]",)),
    Line("kd51", "KD, T 5→1", ("loss=[ce,kd]", "scheduler=linear_temperature")),
    Line("fitnet", "FitNet & hints_50%", ("loss=[ce,fitnet]", "loss.fitnet.student_taps=[layer2]")),
    Line("crd", "CRD", ("loss=[ce,crd]",)),
)
COLUMNS = (
    Line("r56_r20", "resnet56 → resnet20", ("+pair=cifar/resnet56_resnet20",)),
    Line("r8x4", "resnet32x4 → resnet8x4", ("+pair=cifar/resnet32x4_resnet8x4",), note="four times as wide"),
)
LEVELS = {"teacher": 72.3, "alone": 69.1, "kd": 70.7, "dkd": 71.9, "kd51": 71.8, "fitnet": 69.0}
PAPER = {"teacher": 72.34, "alone": 69.06, "kd": 70.66, "dkd": 71.97, "fitnet": 69.21, "crd": 71.16}


def table(folder: Path = Path("crd"), **changes: Any) -> Table:
    """Two columns; CRD is declared and never run; one cell is left out."""
    values: dict[str, Any] = {
        "name": "crd", "folder": folder, "title": "CRD homogeneous pairs", "rule": "last", "tolerance": 0.3,
        "paper": "Tian, Krishnan, Isola: Contrastive representation distillation, ICLR 2020, table 1",
        "note": "CIFAR-100, 240 epochs. Numbers of this example are invented.", "baseline": "kd",
        "seeds": (0, 1, 2), "overrides": ("dataset=cifar100", "recipe=cifar_crd"), "smoke": (),
        "rows": ROWS, "columns": COLUMNS, "left_out": {("fitnet", "r8x4"): "the paper names no layer"},
        "published": {
            (row, c.key): (Published(value + 0.5 * i, "crd"), *([Published(value + 0.2, "dkd")] * (row == "dkd")))
            for row, value in PAPER.items() for i, c in enumerate(COLUMNS)
        },
        "sources": {
            "crd": Source("RepDistiller README", "last", "https://example.org/crd"),
            "dkd": Source("mdistiller README", "best_on_test", "https://example.org/dkd", "best of the test epochs"),
        },
    }  # fmt: skip
    return Table(**(values | changes))


def entry(row: str, column: str, seed: int, last: float, **changes: Any) -> Entry:
    """One training; accuracy by the other rules lies 0.4 above and 0.2 below."""
    values: dict[str, Any] = {
        "row": row, "column": column, "arm": row if row in ("teacher", "alone") else "distilled", "seed": seed,
        "label": f"{row}-s{seed}", "fingerprint": f"{row}{column}{seed}", "last": last, "best_on_test": last + 0.4,
        "val_chosen": last - 0.2, "val": last + 1, "agreement": None, "nll": 1.1, "ece": 4.0, "by_class": (),
        "params": 278_324, "flops": 82_000_000, "epochs": 240, "steps": 93_600, "seconds": 1800.0, "teacher": "big-s0",
        "device": "NVIDIA H100", "machine": "x86_64, 16 cores", "git": "0123456789", "code": "abcdef",
        "torch": "2.15.0",
        "finished": "2026-01-02T03:04:05+00:00", "overrides": f"dataset=cifar100 'loss=[ce,{row}]' seed={seed}",
    }  # fmt: skip
    return Entry(**(values | changes))


def example(folder: Path = Path("crd"), epochs: int = 24) -> tuple[Table, list[Entry], list[Epoch]]:
    """A table with most of its cells run: enough for every picture, mark and panel."""
    declared, noise = table(folder), random.Random(0)
    entries, found = [], []
    for j, column in enumerate(COLUMNS):
        entries.append(
            entry(
                "teacher", column.key, 0, 72.34 + 0.4 * j, params=861_620 * (1 + 7 * j), flops=254_000_000, seconds=2600
            )
        )
        for i, (row, level) in enumerate(LEVELS.items()):
            seeds = (0,) if row == "fitnet" else (0, 1, 2) if row != "kd51" or j == 0 else (0, 1)
            for seed in seeds if row != "teacher" and (row, column.key) not in declared.left_out else ():
                last = level + 0.55 * j + noise.gauss(0, 0.22)
                by_class = tuple(min(100.0, max(0.0, last + 14 * math.sin(c) + noise.gauss(0, 3))) for c in range(20))
                entries.append(
                    entry(row, column.key, seed, last, by_class=by_class, seconds=1500 + 130 * i + 5 * seed + 400 * j,
                          agreement=None if row == "alone" else last + 4.0 + noise.gauss(0, 0.3),
                          params=278_324 * (1 + 3 * j), flops=82_000_000 * (1 + j),
                          overrides=shlex.join(declared.overrides_of(Cell(row, column.key, seed)))),
                )  # fmt: skip
    for e in entries:
        for epoch in range(1, epochs + 1):
            part = epoch / epochs
            steps = sum(part > x for x in (0.62, 0.75, 0.87))
            level = e.last - (14, 5, 1.2, 0)[steps] - 30 * math.exp(-epoch / (epochs / 15))
            values = {"test/accuracy": level + noise.gauss(0, (1.2, 0.6, 0.25, 0.1)[steps])}
            if e.arm == "distilled" and e.row in ("kd", "kd51"):
                values |= {
                    "schedule/kd.temperature": 5 - 4 * part if e.row == "kd51" else 4.0,
                    "schedule/kd.weight": 0.9,
                }
            found.append(Epoch(e.row, e.column, e.arm, e.seed, e.fingerprint, epoch, values))
    return declared, entries, found
