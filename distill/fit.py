"""One training: from a resolved config to a complete record in its own folder; skipped, resumed or run."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import records
from distill.config import IRRELEVANT, Config, fingerprint
from distill.records import RESULT, Record, digest, is_complete, lock, read_json, write_json, write_text

if TYPE_CHECKING:
    from distill.together import Member

LAST, BEST, STUDENT = "checkpoints/last.ckpt", "checkpoints/best.ckpt", "student.safetensors"
TRANSFORMERS = "transformers"
"""Folder that transformers loads, of a student that is one of its models."""


class TrainingFailed(RuntimeError):
    """A training ended without a result; the message says why and where its log is."""


class Interrupted(RuntimeError):
    """A training was told to end by SIGTERM; its checkpoint was written first, and the same command goes on from it."""


class Pruned(RuntimeError):
    """A training was given up by the pruner of its search; it is no result, and the same search does not go on with it.

    Attributes:
        folder: of the run, whose checkpoint another command may go on from.
    """

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


WHERE_CACHED = ("folder", "limit_gb", "fill")
"""Keys of the group ``cache`` that decide when and where answers are kept, and not what they are."""

LABELS = "distill.losses.ce.CE"
"""Target of the term that learns from the labels."""
TERMINATED = 128 + signal.SIGTERM
"""Exit code of a process that SIGTERM ended."""


LATER = {"labelled": 1.0, "vertices": None, "batch_norm": "eval"}
"""Arguments of losses and teachers that came after runs were kept, with the value that changes nothing."""


def identity(cfg: Config) -> Config:
    """Return the part of a resolved config that decides the result; checkpoints count by content, not by name."""
    kept = {k: v for k, v in cfg.items() if k not in {*IRRELEVANT, "cache"}}
    teachers = {}
    for name, node in cfg["teacher"].items():
        path = node["checkpoint"]
        known = Path(path).is_file() if path not in ("train", "built") else False
        teachers[name] = {**_without_defaults(node), "checkpoint": digest(path) if known else path, "training": None}
    # what is kept of an answer is part of the result; where it is kept is not
    cache = {k: v for k, v in (cfg.get("cache") or {}).items() if k not in WHERE_CACHED} if teachers else {}
    own = {"teacher": teachers, "data_seed": cfg["seed"] if cfg["data_seed"] is None else cfg["data_seed"]}
    if kept.get("control", "none") == "none" or not teachers:
        kept.pop("control", None)  # runs from before there were controls are still found
    for name in ("corruptions", "unseen_classes", "graph"):
        if not kept.get(name):
            kept.pop(name, None)
    kept["loss"] = {name: _without_defaults(node) for name, node in cfg["loss"].items()}
    if kept["dataset"].get("captions") is False:  # and those from before there were captions
        kept["dataset"] = {k: v for k, v in kept["dataset"].items() if k != "captions"}
    return {**kept, **own, **({"cache": cache} if cache else {})}


def _without_defaults(node: Config) -> Config:
    """Return a term or teacher without what came later and changes nothing, so that older runs are still found."""
    return {k: v for k, v in node.items() if k not in LATER or v != LATER[k]}


def taught(cfg: Mapping[str, Any]) -> bool:
    """Whether a training is to be compared with cross-entropy alone: it has a teacher, or a term beside the labels."""
    terms = [node["_target_"] for node in (cfg.get("loss") or {}).values()]  # a record of other people's may have none
    return bool(cfg["teacher"]) or LABELS in terms and len(terms) > 1


def label(cfg: Config) -> str:
    """Return a short readable name of a run: dataset, student, terms, control, seed."""
    data = cfg["dataset"]["_target_"].rpartition(".")[2].lower()
    terms = "alone" if not cfg["teacher"] and list(cfg["loss"]) == ["ce"] else "+".join(cfg["loss"])
    if cfg["teacher"] and cfg.get("control", "none") != "none":
        terms += f"-{cfg['control']}"
    return f"{data}-{network_name(cfg['student'])}-{terms}-s{cfg['seed']}"


def network_name(node: Config) -> str:
    """Return what people call the network of a config node: its model name, or its builder's."""
    name = node.get("name") or node["_target_"].rpartition(".")[2]
    return str(name).replace("/", "_")


def folder_of(cfg: Config) -> Path:
    """Return the folder of the run that a resolved config describes."""
    return Path(cfg["out"]) / f"{label(cfg)}-{fingerprint(identity(cfg))}"


def fit(cfg: Config, overrides: list[str], title: str, member: Member | None = None) -> Record:
    """Train what a resolved config describes, unless its record is complete; go on where it was interrupted.

    Args:
        cfg: resolved config of one training.
        overrides: what the user typed, for the record.
        title: what this run is, for the progress display.
        member: its place among trainings that take turns in this process, see :mod:`distill.together`.

    Returns:
        The complete record, as in ``result.json``.

    Raises:
        TrainingFailed: when a separate process that trained it failed.
        Interrupted: when SIGTERM ended it, after a checkpoint.
        Pruned: when the pruner of the search that it is a trial of gave it up, now or before.
        distill.modules.base.DivergenceError: when a term of the objective became NaN or infinite.
    """
    folder = folder_of(cfg)
    idle = None if member is None else member.idle
    held = contextlib.nullcontext() if rank() else lock(folder, idle)
    with held:
        record = read_json(folder / RESULT)
        if is_complete(record) and not cfg["rerun"] and record is not None:
            _say_if_stale(record, cfg, folder)
            _tell(cfg, record)
            return record
        if _given_up(record, cfg) and not cfg["rerun"]:
            _tell(cfg, record)
            raise _pruned(record, title, folder)
        if cfg["rerun"] and not rank():
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            (folder / RESULT).unlink(missing_ok=True)
        if _needs_processes(cfg):
            _in_own_process(cfg, overrides, title, folder)
        else:
            from distill.training import train

            train(cfg, folder, overrides, title, member)
        record = read_json(folder / RESULT)
    if _given_up(record, cfg):
        raise _pruned(record, title, folder)
    if record is None or not is_complete(record):
        raise TrainingFailed(f"{folder}: no complete {RESULT} was written")
    return record


def _given_up(record: Record | None, cfg: Config) -> bool:
    """Whether the search that a config is a trial of has pruned this very run."""
    same = record is not None and cfg["trial"] is not None and record["status"] == "pruned"
    return same and record is not None and record["config"]["trial"]["study"] == cfg["trial"]["study"]


def _tell(cfg: Config, record: Record | None) -> None:
    """Report what is known of a run to the trial that asks for it again, so that the pruner can compare with it."""
    if cfg["trial"] is not None and record is not None and not rank():
        from distill.search.study import Watched

        Watched(**cfg["trial"]).report(record["history"])


def _pruned(record: Record | None, title: str, folder: Path) -> Pruned:
    found = (record or {})["pruned"]
    return Pruned(f"{title}: pruned after epoch {found['epoch']} at {found['val']:.2f} % validation accuracy", folder)


def rank() -> int:
    """Return the rank that a launcher gave this process, 0 when there is none."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", 0))))


def _say_if_stale(record: Record, cfg: Config, folder: Path) -> None:
    if record.get("code") != records.code_hash(cfg) and not rank():
        _say_stale(folder)


@cache
def _say_stale(folder: Path) -> None:
    """Say so once, however many cells of a process share what is there."""
    print(f"note: {folder} was trained by other code than this; rerun=true trains it again", file=sys.stderr)


def _needs_processes(cfg: Config) -> bool:
    launched = any(name in os.environ for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))
    return not launched and cfg["trainer"]["devices"] not in (1, "1") or cfg["trainer"].get("num_nodes", 1) > 1


def _in_own_process(cfg: Config, overrides: list[str], title: str, folder: Path) -> None:
    """Train in a process whose command line names this very run.

    Lightning starts further ranks by repeating the command line; repeated from here it would start the whole
    comparison, or the whole sweep, again.
    """
    write_json(folder / "job.json", {"config": cfg, "overrides": overrides, "title": title})
    child = subprocess.Popen([sys.executable, "-m", "distill.worker", str(folder / "job.json")])
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate()) if main_thread else None
    try:
        code = child.wait()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)
    if code == TERMINATED:
        raise Interrupted(f"{title}: stopped by SIGTERM")
    if code:
        known = (read_json(folder / RESULT) or {}).get("error", f"exit code {code}")
        raise TrainingFailed(f"{title}: training in {folder} failed: {known}")


def write_metrics(folder: Path, history: list[dict[str, float]]) -> None:
    """Write ``metrics.csv``, one line an epoch; rewritten whole, so a resumed run leaves no gap and no duplicate."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "metrics.csv", text.getvalue())


def accuracies(history: list[dict[str, float]]) -> dict[str, Any]:
    """Return test accuracy by the three rules that published tables use, with the epoch each chose.

    ``last`` is the last epoch (RepDistiller), ``best_on_test`` the best test epoch (mdistiller and its forks), and
    ``val_chosen`` the epoch with the best validation accuracy (the last of equal ones), the only rule that does not
    look at the answer.
    """
    history = [row for row in history if "test/accuracy" in row]  # not each epoch, with check_val_every_n_epoch
    tests = [row["test/accuracy"] for row in history]
    best = max(range(len(tests)), key=tests.__getitem__)
    out: dict[str, Any] = {
        "last": tests[-1],
        "best_on_test": tests[best],
        "best_on_test_epoch": int(history[best]["epoch"]),
        "val_chosen": None,
    }
    if "val/accuracy" in history[-1]:
        chosen = max(range(len(tests)), key=lambda i: (history[i]["val/accuracy"], i))
        out |= {
            "val_chosen": tests[chosen],
            "val_chosen_epoch": int(history[chosen]["epoch"]),
            "val": history[chosen]["val/accuracy"],
        }
    return out


def read_job(path: str) -> tuple[Config, list[str], str, Path]:
    """Return config, overrides, title and folder of a job file."""
    job = json.loads(Path(path).read_text())
    return job["config"], job["overrides"], job["title"], Path(path).parent
