"""Loggers that show a training elsewhere: TensorBoard, and Weights & Biases offline or online."""

from __future__ import annotations

import importlib.util
import json
import netrc
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from distill.fit import taught
from distill.records import Record

MODES = ("auto", "online", "offline", "disabled")


class TensorBoard:
    """Writes event files to the folder ``tensorboard`` of a run; look with ``tensorboard --logdir runs``.

    Args:
        flush_secs: seconds between writes to disk.

    Raises:
        ModuleNotFoundError: without the package tensorboard.
    """

    def __init__(self, flush_secs: int) -> None:
        _need("tensorboard", "logger=tensorboard", "distill[tensorboard]")
        self.flush_secs = flush_secs

    def __call__(self, folder: Path, record: Record) -> Logger:
        """Return the logger of one training in ``folder``, which ``record`` describes."""
        version = _again(record, "")
        logger = TensorBoardLogger(
            str(folder), name="tensorboard", version=version, default_hp_metric=False, flush_secs=self.flush_secs
        )
        text = json.dumps(_described(record), indent=1, default=str).replace("\n", "\n    ")
        logger.experiment.add_text("config", f"    {text}")
        return logger


class WandB:
    """Logs to Weights & Biases; one training is one W&B run, whose id is the run's fingerprint.

    Started by the agent of a W&B sweep, the run is the agent's own, and only the student that is taught is logged.

    Args:
        project: where runs are kept.
        entity: user or team; None for the default of the account.
        group: runs to show as one; None for the sweep they belong to, else for everything but the seed.
        tags: words to find runs by, next to the config's own ``tags``.
        mode: ``online``, ``offline`` (send later with ``wandb sync``), ``disabled``, or ``auto``: what ``WANDB_MODE``
            says, else online where this machine is logged in and offline where it is not.
        notes: free text.

    Raises:
        ModuleNotFoundError: without the package wandb.
        ValueError: for another mode.
    """

    def __init__(
        self,
        project: str,
        entity: str | None,
        group: str | None,
        tags: Sequence[str],
        mode: str,
        notes: str | None,
    ) -> None:
        _need("wandb", "logger=wandb", "wandb")
        if mode not in MODES:
            raise ValueError(f"mode={mode}: choose one of {', '.join(MODES)}")
        self.project, self.entity, self.group, self.tags = project, entity, group, list(tags)
        self.mode, self.notes = mode, notes

    def __call__(self, folder: Path, record: Record) -> Logger:
        """Return the logger of one training in ``folder``, which ``record`` describes."""
        import wandb

        mode, sweep = self.mode, os.environ.get("WANDB_SWEEP_ID")
        if mode == "auto":
            mode = os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
        config = record["config"]
        if sweep and not taught(config):
            mode = "disabled"  # the agent of a W&B sweep has one run, which is the student's that is taught
        logger = WandbLogger(
            name=record["label"],
            save_dir=str(folder),
            id=(sweep and os.environ.get("WANDB_RUN_ID")) or _again(record, record["fingerprint"]),
            project=self.project,
            entity=self.entity,
            group=self.group or os.environ.get("WANDB_RUN_GROUP") or record["label"].rpartition("-s")[0],
            job_type="distilled" if taught(config) else "alone",
            tags=list(dict.fromkeys([*config["tags"], *self.tags])),
            notes=self.notes,
            mode=mode,
            resume="allow",
            config=_described(record),
            # the terminal shows the progress of several trainings; none of it belongs to this one alone
            settings=wandb.Settings(console="off", silent=mode != "online"),
        )
        logger._wandb_init.pop("anonymous", None)  # Lightning passes it on always, and wandb then says it is obsolete
        return logger


def finish(loggers: Iterable[Logger], record: Record) -> None:
    """Close what was opened for one training, so that the next training in this process is a run of its own.

    Args:
        loggers: of the trainer; those that need no closing are left alone.
        record: of the training as it ended, complete or not; its outcome becomes the W&B run's summary.
    """
    if not any(isinstance(logger, WandbLogger) for logger in loggers):
        return
    import wandb

    if wandb.run is None:  # another rank than the first, or a failure before the first step
        return
    complete = record.get("status") == "complete"
    summary = (
        {f"final/{rule}": record["accuracy"].get(rule) for rule in ("last", "best_on_test", "val_chosen")}
        if complete
        else {}
    )
    kept = ("status", "error", "pruned", "params", "flops", "seconds", "samples_per_second", "device")
    summary |= {key: record[key] for key in kept if key in record}
    summary |= {f"final/{k}": v for k, v in record.get("test", {}).items() if isinstance(v, float)}
    wandb.run.summary.update(summary)
    wandb.run.finish(exit_code=0 if complete or record.get("status") == "pruned" else 1)


def logged_in() -> bool:
    """Whether this machine has credentials of Weights & Biases; asks nobody."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _described(record: Record) -> dict[str, Any]:
    """Return the config of a run with what says which code and which machine ran it."""
    kept = ("git", "code", "versions", "machine", "overrides", "fingerprint")
    return {**record["config"], **{key: record[key] for key in kept if key in record}}


def _again(record: Record, name: str) -> str:
    """Return a name of its own for a training that ``rerun=true`` repeats, else the name that a resumed one shares."""
    return f"{name}-{time.strftime('%Y%m%d%H%M%S')}".lstrip("-") if record["config"].get("rerun") else name


def _need(package: str, choice: str, install: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{choice} needs the package {package}: pip install '{install}'")
