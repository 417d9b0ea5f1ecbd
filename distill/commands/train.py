"""`distill train`: a Hydra application; says every mistake before anything is trained, and prints the comparison."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from distill.commands.preflight import Findings, look, parsed
from distill.config import ConfigError, plain
from distill.places import CONF

if TYPE_CHECKING:
    from distill.fit import Pruned
    from distill.results import Result

CURVES = "curves.png"
MISTAKE = 2
"""Exit code for a mistake of the user."""


class CellFailed(CompactHydraException):
    """A cell of a sweep ended without a result; Hydra prints the sentence without a traceback."""


class CellInterrupted(CellFailed):
    """A cell of a sweep was told to end by SIGTERM; the sweep shall not go on without it."""

    interrupted = True


failed: list[str] = []
"""Cells of this process's sweep that failed, one sentence each; named again at the end."""


def main(arguments: Sequence[str]) -> int:
    """Run ``distill train`` with Hydra's command line; return the exit code."""
    try:
        line = parsed(arguments)
    except ConfigError as error:
        return report(Findings(error.problems))
    if line.help:
        from distill.commands.help import main as show

        return show(arguments)
    if not (line.hydra_help or line.info or line.shell_completion or line.experimental_rerun):
        found = look(line, checks=line.cfg is None, early=say_early)
        if found.mistakes or found.only and line.cfg is None:
            return report(found)
    return _hydra(arguments, line)


def report(found: Findings, outcome: str = "nothing was trained") -> int:
    """Print the mistakes that were found, or what would be trained; return the exit code."""
    if found.mistakes:
        _say_mistakes(found, outcome)
        return MISTAKE
    from distill.commands.plan import plan

    print(*plan(found), sep="\n")
    return 0


def _hydra(arguments: Sequence[str], line: argparse.Namespace) -> int:
    """Hand the command line to Hydra, whose parser wants options before overrides; return the exit code."""
    options = list(arguments)
    for override in line.overrides:
        options.remove(override)
    failed.clear()
    before, sys.argv = sys.argv, ["distill", *options, *line.overrides]
    code = 0
    try:
        application()
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):  # Lightning turns Ctrl-C into exit code 1
            raise end.__context__ from None
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.argv = before
    if failed:
        _say(f"{len(failed)} cell{'s' if len(failed) > 1 else ''} failed:", *(f"- {s}" for s in failed))
    return code


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def application(cfg: DictConfig) -> float:
    """Train what one composed config describes; return what a sweep maximises."""
    job = HydraConfig.get()
    many = job.mode == RunMode.MULTIRUN
    group = {"WANDB_RUN_GROUP": Path(job.sweep.dir).name} if many and "WANDB_RUN_GROUP" not in os.environ else {}
    os.environ.update(group)
    try:
        # as they were typed: an interpolation in one of them is not to be replaced by its value
        typed = OmegaConf.to_container(job.overrides.task, resolve=False)
        return _compare(cfg, [str(text) for text in typed or ()], Path(job.runtime.output_dir))
    except Exception as error:
        from distill.fit import TERMINATED

        code, sentence = explain(error)
        if many:
            named = f"[{job.job.num}] {job.job.override_dirname}: {sentence}"
            failed.append(named)
            raise (CellInterrupted if code == TERMINATED else CellFailed)(named) from error
        _say(sentence)
        sys.exit(code)
    finally:
        for name in group:
            del os.environ[name]


def _compare(cfg: DictConfig, overrides: list[str], folder: Path) -> float:
    from distill.comparison import run
    from distill.fit import Pruned, rank

    try:
        result = run(plain(cfg), overrides, checked=True)
    except Pruned as given_up:
        if not rank():
            keep_pruned(given_up, overrides, folder)
        return math.nan
    if not rank():
        keep(result, folder, bool(cfg.quiet))
    return result.objective


def keep(result: Result, folder: Path, quiet: bool) -> None:
    """Write summary and curves of a comparison into its folder, and print it."""
    from distill.plots import curves

    result.save(folder)
    curves(result, folder / CURVES)
    _show(result, folder, quiet)


def keep_pruned(given_up: Pruned, overrides: list[str], folder: Path) -> None:
    """Say in the folder of a trial, and on the terminal, that the pruner of its search gave it up."""
    from distill.records import write_json
    from distill.results import SUMMARY

    run = str(given_up.folder)
    write_json(folder / SUMMARY, {"status": "pruned", "overrides": overrides, "reason": str(given_up), "folder": run})
    print(f"{given_up}; {run}/ has its record", flush=True)


def _show(result: Result, folder: Path, quiet: bool) -> None:
    from rich.console import Console

    from distill.fit import folder_of

    if quiet:
        for arm in result.arms:
            print(f"student {arm}: test accuracy {result.accuracy(arm)} %")
    else:
        result.print(Console())
        print()
    places = {f"teacher {name}": [str(folder_of(r["config"]))] for name, r in result.teachers.items()}
    places |= {f"student {arm}": folders for arm, folders in result.folders.items()}
    for what, folders in places.items():
        for where in folders:
            print(f"{what + ':':<20} {where}/ (result.json, metrics.csv, student.safetensors, checkpoints/)")
    near = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    print(f"{'comparison:':<20} {near}/ (summary.json, {CURVES})", flush=True)


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit code for an error and what to say of it; raises again what is a fault of the program."""
    from distill.fit import TERMINATED, Interrupted, TrainingFailed
    from distill.modules.base import DivergenceError

    if isinstance(error, ConfigError):
        return MISTAKE, str(error)
    if isinstance(error, Interrupted):
        return TERMINATED, f"{error}; its checkpoint was saved: run the same command to go on"
    if isinstance(error, TrainingFailed | DivergenceError):
        return 1, str(error)
    raise error


def say_early(found: Findings) -> None:
    """Print the mistakes that are known before torch is imported, which takes seconds."""
    _say_mistakes(found, "nothing was trained", " so far")


def _say_mistakes(found: Findings, outcome: str, more: str = "") -> None:
    lines = mistaken(found, outcome, more)
    _say(*lines[found.said + 1 if found.said else 0 :])
    found.said = len(found.mistakes)


def mistaken(found: Findings, outcome: str = "nothing was trained", more: str = "") -> list[str]:
    """Return the mistakes as lines of text, with their number on top."""
    count = len(found.mistakes)
    return [f"{count} mistake{'s' if count > 1 else ''}{more}, {outcome}:", *(f"- {s}" for s in found.mistakes)]


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)
