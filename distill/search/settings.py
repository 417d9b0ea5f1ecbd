"""What is wrong with the settings of a search, in plain words, before its first trial; imports no optuna."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill.records import Record

OBJECTIVES = ("val_accuracy", "params", "flops", "seconds")
"""What can be searched for: mean validation accuracy (%), parameters, FLOPs of an image, seconds of a training."""
DIRECTIONS = ("maximize", "minimize")
SWEEPER = "hydra_plugins.distill_optuna_sweeper.OptunaSweeper"


def mistakes(node: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Give one sentence for each mistake in the node ``hydra.sweeper`` of a search.

    Args:
        node: as a plain mapping.
        config: the composed config of a cell.
    """
    if importlib.util.find_spec("optuna") is None:
        yield "hydra/sweeper=optuna: needs the package optuna; pip install 'distill[optuna]'"
    names, directions = list(node["objectives"]), list(node["directions"])
    for name in names:
        if name not in OBJECTIVES:
            yield f"hydra.sweeper.objectives={_list(names)}: {name} is none; choose among {', '.join(OBJECTIVES)}"
    wrong = [direction for direction in directions if direction not in DIRECTIONS]
    if wrong or len(names) != len(directions) or not names:
        fix = f"give one of {' or '.join(DIRECTIONS)} for each of hydra.sweeper.objectives={_list(names)}"
        yield f"hydra.sweeper.directions={_list(directions)}: {fix}"
    for key in ("n_trials", "n_jobs"):
        if not isinstance(node[key], int) or node[key] < 1:
            yield f"hydra.sweeper.{key}={node[key]}: must be a whole number of at least 1"
    if node["pruner"] is not None and len(names) > 1:
        yield "hydra.sweeper.pruner: optuna prunes for one objective; use hydra.sweeper.pruner=null with several"
    dataset = config.get("dataset")
    if isinstance(dataset, Mapping) and dataset.get("val_fraction") == 0:
        needs = [name for name in names if name == "val_accuracy"] or ["pruner"] * (node["pruner"] is not None)
        for name in needs:
            yield f"dataset.val_fraction=0: a search reads validation accuracy ({name}); hold some out, such as 0.1"


def _list(words: Sequence[Any]) -> str:
    return f"[{','.join(map(str, words))}]"


def value(summary: Record, name: str) -> float:
    """Return an objective of a comparison from its ``summary.json``; that of the student that was taught, if any was.

    Raises:
        ValueError: when there is no such number.
    """
    if name == "seconds":
        seconds = summary["seconds"]
        return float(seconds.get("distilled", seconds.get("alone"))) / len(summary["seeds"])
    found = summary.get(name)
    if found is None:
        raise ValueError(f"its summary has no {name}")
    return float(found)
