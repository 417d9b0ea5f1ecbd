"""`distill train`: a Hydra application; says every mistake before anything is trained, and prints the comparison."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from distill.config import CONF, ConfigError, plain

if TYPE_CHECKING:
    from distill.results import Result

CURVES = "curves.png"


class CellFailed(CompactHydraException):
    """A cell of a sweep ended without a result; Hydra prints the sentence without a traceback."""


failed: list[str] = []
"""Cells of this process's sweep that failed, one sentence each; named again at the end."""


def main(arguments: Sequence[str]) -> int:
    """Run ``distill train`` with Hydra's command line; return the exit code."""
    failed.clear()
    before, sys.argv = sys.argv, ["distill", *arguments]
    try:
        application()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    else:
        code = 0
    finally:
        sys.argv = before
    if failed:
        _say(f"{len(failed)} cell(s) failed:", *(f"  {sentence}" for sentence in failed))
    return code


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def application(cfg: DictConfig) -> float:
    """Train what one composed config describes; return what a sweep maximises."""
    job = HydraConfig.get()
    try:
        return _compare(cfg, list(job.overrides.task), Path(job.runtime.output_dir))
    except Exception as error:
        code, sentence = _explain(error)
        if job.mode == RunMode.MULTIRUN:
            named = f"[{job.job.num}] {job.job.override_dirname}: {sentence}"
            failed.append(named)
            raise CellFailed(named) from error
        _say(sentence)
        sys.exit(code)


def _compare(cfg: DictConfig, overrides: list[str], folder: Path) -> float:
    from distill.fit import rank
    from distill.plots import curves
    from distill.run import run

    result = run(plain(cfg), overrides)
    if not rank():
        result.save(folder)
        curves(result, folder / CURVES)
        _report(result, folder, bool(cfg.quiet))
    return result.objective


def _report(result: Result, folder: Path, quiet: bool) -> None:
    from rich.console import Console

    if quiet:
        for arm in result.arms:
            print(f"student {arm}: test accuracy {result.accuracy(arm)} %")
    else:
        result.print(Console())
    for arm, folders in result.folders.items():
        print(f"{arm}: {', '.join(folders)}")
    print(f"record and curves: {folder}")


def _explain(error: Exception) -> tuple[int, str]:
    """Return the exit code for an error and what to say of it; raises again what is a fault of the program."""
    from distill.fit import TERMINATED, Interrupted, TrainingFailed
    from distill.modules.base import DivergenceError

    if isinstance(error, ConfigError):
        return 2, str(error)
    if isinstance(error, Interrupted):
        return TERMINATED, f"{error}; its checkpoint was saved: run the same command to go on"
    if isinstance(error, TrainingFailed | DivergenceError):
        return 1, str(error)
    raise error


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr, flush=True)


