"""`distill eval`: a run folder, checkpoint or file of weights on any split or dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from distill.commands.preflight import Findings, look, parsed
from distill.config import ConfigError

HELP = """\
Evaluates the student of a run folder, a checkpoint of distill, or a file of weights.

  distill eval runs/digits-digits_cnn-ce+kd-s0-8421bcbc76
  distill eval RUN --split val
  distill eval RUN dataset=image_folder dataset.root=DIR dataset.num_classes=10     other data of the same classes
  distill eval weights.pth student=resnet20 dataset=cifar100 dataset.root=DIR       public weights
"""
ROWS = {
    "samples": "", "accuracy": "%", "top5": "%", "nll": "nats", "ece": "% calibration error, 15 bins",
    "agreement": "% with its teacher", "majority": "% by the most frequent answer, without a look",
    "prior": "% by the words of the question, without a look",
}  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Print the scores of a trained network; return the exit code."""
    from distill.commands.train import report

    parser = argparse.ArgumentParser(
        "distill eval", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="run folder, checkpoint, or file of weights")
    parser.add_argument("overrides", nargs="*", help="config overrides, such as dataset.root=DIR")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--corrupt", type=int, metavar="LEVEL", help="also under corruptions of this strength, 1 to 5")
    parser.add_argument("--config-dir", help="folder with config groups of your own")
    parser.add_argument("--json", action="store_true", help="print JSON, accuracy by class included")
    line = parser.parse_intermixed_args(list(arguments))
    try:
        scores = evaluated(line)
    except (ConfigError, OmegaConfBaseException, FileNotFoundError, ValueError) as error:
        found = error.problems if isinstance(error, ConfigError) else [" ".join(str(error).split())]
        return report(Findings(found), "nothing was evaluated")
    print(json.dumps(scores, indent=1) if line.json else shown(scores))
    return 0


def evaluated(line: argparse.Namespace) -> dict[str, Any]:
    """Return the scores that a command line asks for, and what was evaluated.

    Raises:
        ConfigError: names what cannot be composed or loaded.
    """
    composed = [o for o in line.overrides if "=" not in o or o.startswith(("dataset=", "student="))]
    folder = ["--config-dir", line.config_dir] if line.config_dir else []
    wrong = look(parsed([*composed, *folder]), checks=False).mistakes
    if wrong:
        raise ConfigError(wrong)
    from distill.trained import load

    loaded = load(line.path, line.overrides, line.config_dir)
    found = {"weights": str(loaded.weights), "split": line.split, **loaded.evaluate(line.split)}
    return found if line.corrupt is None else {**found, "corrupted": loaded.corrupted(line.split, line.corrupt)}


def shown(scores: dict[str, Any]) -> str:
    """Return scores as lines of text."""
    lines = [f"{scores['weights']}, {scores['split']} split"]
    for key, unit in ROWS.items():
        if key in scores:
            value = scores[key]
            lines.append(f"  {key:<10}{value:>8}" if key == "samples" else f"  {key:<10}{value:>8.2f} {unit}")
    lines += [f"  {kind:<10}{value:>8.2f} % under corruption" for kind, value in scores.get("corrupted", {}).items()]
    for kind, value in scores.get("by_kind", {}).items():
        lines.append(f"  {'' if value is None else f'{value:.2f}':>18} % of kind {kind}")
    return "\n".join(lines)
