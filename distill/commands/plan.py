"""What a config would train: each training with its folder, and whether it is complete, interrupted or still to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from distill.commands.preflight import Cell, Findings
from distill.comparison import alone, teacher_config
from distill.config import Config, resolved
from distill.fit import LAST, STUDENT, folder_of, network_name, taught
from distill.records import RESULT, is_complete, read_json


def plan(found: Findings) -> list[str]:
    """Return lines of text that say what a command line without mistakes would train."""
    return [*map(describe, found.cells), *found.notes, "no mistake found; nothing was trained"]


def describe(cell: Cell) -> str:
    """Return the trainings of one cell, a line each."""
    head = [f"{cell.words}:"] if cell.words else []
    return "\n".join([*head, *_trainings(cell.config)])


def _trainings(cfg: Config) -> Iterator[str]:
    seeds = [cfg["seed"] + i for i in range(cfg["seeds"])]
    checkpoints = {}
    for name, node in cfg["teacher"].items():
        path = node["checkpoint"]
        if path == "train":
            own = teacher_config(cfg, name)
            path = str(folder_of(own) / STUDENT)
            yield _line(f"teacher {name}", own)
        else:
            yield f"  teacher {name}: {'as the network comes' if path == 'built' else path}"
        checkpoints[name] = {**node, "checkpoint": path}
    if cfg["alone"] and taught(cfg):
        for own in _by_seed(partial(alone, cfg), seeds):
            yield _line(f"student alone, seed {own['seed']}", own)
    what = f"student distilled with {'+'.join(cfg['loss'])}" if taught(cfg) else "student alone"
    cache = cfg["cache"] if checkpoints else {}
    for own in _by_seed(lambda s: resolved({**cfg, "teacher": checkpoints, "cache": cache, "seed": s}), seeds):
        seed = own["seed"]
        if all(_there(node["checkpoint"]) for node in checkpoints.values()):
            yield _line(f"{what}, seed {seed}", own)
        else:
            yield f"  {what}, seed {seed}: {_amount(own)}, once the teacher is trained"


def _by_seed(make: Callable[[int], Config], seeds: Sequence[int]) -> Iterator[Config]:
    """Give the config of each seed; interpolations are resolved anew only where they lead to the seed."""
    first = make(seeds[0]) if seeds else {}
    other = {**make(seeds[1]), "seed": first["seed"]} if len(seeds) > 1 else first
    for seed in seeds:
        yield {**first, "seed": seed} if first == other else make(seed)


def _there(checkpoint: str) -> bool:
    return checkpoint == "built" or Path(checkpoint).is_file()


def _line(title: str, cfg: Config) -> str:
    folder = folder_of(cfg)
    state = "to train"
    if is_complete(read_json(folder / RESULT)):
        state = "complete, will be trained again" if cfg["rerun"] else "complete"
    elif (folder / LAST).is_file():
        pruned = (read_json(folder / RESULT) or {}).get("status") == "pruned"
        state = f"{'pruned in a search' if pruned else 'interrupted'}, goes on from its checkpoint"
    return f"  {title}: {_amount(cfg)}, {state}, {folder}"


def _amount(cfg: Config) -> str:
    return f"{network_name(cfg['student'])}, {cfg['trainer']['max_epochs']} epochs"
