"""Trains one run with Lightning, in this process, and writes its record."""

from __future__ import annotations

import logging
import math
import os
import traceback
import warnings
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, EMAWeightAveraging, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException
from safetensors.torch import save_file
from torch import Tensor
from torch._functorch import config as functorch_config
from torch.utils.flop_counter import FlopCounterMode

from distill import peak, records, unseen
from distill.assemble import Parts, accumulated, answer, assemble, input_spec
from distill.cache.fill import fill
from distill.cache.teacher import Cached
from distill.config import Config, build, fingerprint
from distill.data.loader import Pace
from distill.evaluate import agreement, measured, moved, predict, under_corruption
from distill.fit import BEST, LAST, STUDENT, TRANSFORMERS, Interrupted, accuracies, identity, label, rank, write_metrics
from distill.grafts import KEY
from distill.loggers import finish
from distill.modules.base import DistillationModule, DivergenceError
from distill.outputs import Batch
from distill.overlays import Overlays, source
from distill.pointing import Looks
from distill.progress import Bar, Lines, filling
from distill.records import RESULT, Record, write_json
from distill.search.pruning import Pruning
from distill.search.study import Watched
from distill.taps import Tapped

if TYPE_CHECKING:
    from distill.together import Member

OURS = ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches")
"""Arguments of the trainer that the module and the loader see to, because Lightning counts calls, not steps."""
COUNTED = ("val_check_interval", "overfit_batches", "fast_dev_run", "max_time")
"""Arguments of the trainer that only fit where a call is a step."""
WORTH = {"cpu": 5e10, "cuda": 1e13}
"""FLOPs of a call, about a second on two CPU cores and a tenth of one on a GPU: SIGTERM waits for no longer."""
PIXELS = 64e6
"""Bytes of images of a call."""


class Keeper(Checkpoint):
    """Keeps ``metrics.csv`` up to date, and saves a checkpoint the moment the system asks the process to end.

    A ``Checkpoint`` by type, because Lightning calls those after the module has closed its epoch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asked = False

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, out: Any, batch: Any, _: int) -> None:
        # with several ranks the signal reaches one of them, and saving needs all: there the one on disk has to do;
        # from a checkpoint after the last batch Lightning would go on with the next epoch and never close this one
        inside = batch.first + len(batch.batches) < batch.total
        if trainer.received_sigterm and trainer.world_size == 1 and inside:
            trainer.save_checkpoint(self.folder / LAST)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        # Lightning would leave the evaluation at once, and with it an epoch that lacks nothing but its end
        if trainer.received_sigterm and trainer.world_size == 1:
            self._asked, trainer._signal_connector.received_sigterm = True, False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._asked:
            trainer._signal_connector.received_sigterm = True
        if trainer.is_global_zero and isinstance(pl_module, DistillationModule):
            write_metrics(self.folder, pl_module.history)


def train(cfg: Config, folder: Path, overrides: list[str], title: str, member: Member | None = None) -> None:
    """Train what a resolved config describes in this process, from its last checkpoint if there is one.

    Args:
        cfg: resolved config of one training.
        folder: where its record, checkpoints and metrics go.
        overrides: what the user typed, for the record.
        title: what this run is, for the progress display.
        member: its place among trainings that take turns in this process.

    Raises:
        distill.modules.base.DivergenceError: when a term of the objective became NaN or infinite.
        distill.fit.Interrupted: after a checkpoint, when the system ended the process.
    """
    began = perf_counter()
    quiet_lightning()
    record = {
        "status": "running", "label": label(cfg), "fingerprint": fingerprint(identity(cfg)), "overrides": overrides,
        "config": cfg, "code": records.code_hash(cfg), **records.provenance(), "pid": os.getpid(),
    }  # fmt: skip
    trainer: pl.Trainer | None = None
    try:
        parts = assemble(cfg, None if member is None else member.group, caches=True)
        if not rank():
            write_json(folder / RESULT, record)
        trainer = make_trainer(cfg, parts, folder, record, title, member)
        parts.module.provenance = {"config": cfg, "label": record["label"], **described(parts)}
        last = folder / LAST
        start = str(last) if last.is_file() else cfg["ckpt_path"]
        if cfg["cache"] and cfg["cache"]["fill"] == "ahead":
            fill_ahead(parts, trainer.strategy.root_device, cfg["quiet"] or member is not None)
        if cfg["compile"]:
            # the graph is gone through once a term where their gradients are measured
            functorch_config.donated_buffer = not cfg["term_gradients"]
            parts.student.network.compile()
        parts.data.pace = pace(cfg, parts, trainer.strategy.root_device)
        if member is not None:
            parts.data.pace = member.group.pace(parts.data.pace)
        peak.forget(trainer.strategy.root_device)
        trainer.fit(parts.module, parts.data, ckpt_path=start, weights_only=True)
        if trainer.is_global_zero:
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            pruned = any(isinstance(found, Pruning) and found.stopped for found in callbacks)
            outcome = _given_up(parts.module) if pruned else _outcome(cfg, parts, trainer, folder)
            write_json(folder / RESULT, record | outcome | {"wall": perf_counter() - began})
        trainer.strategy.barrier()
    except SIGTERMException as signal:
        if not rank():
            write_json(folder / RESULT, {**record, "status": "interrupted"})
        raise Interrupted(f"{title}: stopped by SIGTERM after {parts.module.global_step} steps") from signal
    except Exception as error:
        if not rank():
            good = isinstance(error, DivergenceError) and (folder / LAST).is_file()
            kept = f"; the last good checkpoint is {folder / LAST}" if good else ""
            message = f"{' '.join(str(error).split())}{kept}"
            write_json(folder / RESULT, {**record, "status": "failed", "error": message})
            records.write_text(folder / "error.log", traceback.format_exc())
            if isinstance(error, DivergenceError):
                raise DivergenceError(f"{title}: {message}") from error
        raise
    finally:
        if trainer is not None:
            finish(trainer.loggers, records.read_json(folder / RESULT) or record)


def quiet_lightning() -> None:
    """Keep Lightning's advertisements, device lists and advice for other data loaders out of the output."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    messages = (
        ".*does not have many workers",  # data in memory need none
        ".*isinstance.treespec, LeafSpec.",  # Lightning's own use of torch
        ".*exists and is not empty",  # a run folder that is resumed
        ".*sync_dist=True",  # what is logged has been summed over the ranks
        ".*smaller than the logging interval",  # metrics are logged by epoch
    )
    for message in messages:
        warnings.filterwarnings("ignore", message=message)


def make_trainer(
    cfg: Config, parts: Parts, folder: Path, record: Record, title: str, member: Member | None = None
) -> pl.Trainer:
    """Return the Lightning trainer of a run: its callbacks, its logger, its folder."""
    checkpoints = folder / Path(LAST).parent
    common: dict[str, Any] = {
        "dirpath": checkpoints, "enable_version_counter": False, "save_top_k": 1, "save_on_train_epoch_end": True,
    }  # fmt: skip
    callbacks: list[Callback] = [
        Lines(title) if cfg["quiet"] or member is not None else Bar(title),  # a terminal has room for one bar
        Keeper(folder),
        ModelCheckpoint(filename=Path(LAST).stem, **common),
    ]
    if cfg["checkpoint_every"]:
        every = int(cfg["checkpoint_every"])
        callbacks.append(_StepCheckpoint(folder / LAST, every))
    if "val" in parts.data.eval_names:
        common |= {"monitor": "val/accuracy", "mode": "max", "save_on_train_epoch_end": False}
        callbacks.append(_BestCheckpoint(filename=Path(BEST).stem, **common))
    if cfg["trial"] is not None:
        callbacks.append(Pruning(Watched(**cfg["trial"])))
    if member is not None:
        callbacks.append(member)
    if cfg["ema_decay"] is not None:
        callbacks.append(EMAWeightAveraging(decay=cfg["ema_decay"]))
    shown = source(parts) if cfg["overlays"] else None  # a student alone may have nothing to show
    if shown is not None:
        callbacks.append(Overlays(folder, parts.data, cfg["overlays"], shown))  # of the average, where there is one
    loggers = []
    if cfg["logger"]:
        make = build(cfg["logger"], "logger")
        loggers.append(make(folder, record))
    trainer: pl.Trainer = build(cfg["trainer"], "trainer", drop=OURS, partial=True)(
        callbacks=callbacks, logger=loggers or False, default_root_dir=str(folder), use_distributed_sampler=False,
        num_sanity_val_steps=0, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    return trainer


def pace(cfg: Config, parts: Parts, device: torch.device) -> Pace:
    """Return how many batches a call of the training step gets: what is worth its overhead, or one where steps count.

    Decided by the config and the kind of device, not by a clock, so that an interrupted run goes on alike.
    """
    node, shape = cfg["trainer"], (parts.data.channels, *parts.data.image_size)
    limits: dict[str, Any] = {"cut": cfg["checkpoint_every"], "limit": node.get("limit_train_batches", 1.0)}
    if cfg["ema_decay"] is not None or any(node.get(key) for key in COUNTED) or parts.data.workers:
        return Pace(**limits)
    size = parts.data.batch_size
    counter = FlopCounterMode(display=False)
    index = torch.zeros(1, dtype=torch.int64)
    batch = Batch(torch.zeros(1, *shape, dtype=torch.uint8), index, index, index)
    with counter, torch.no_grad():
        for teacher in parts.teachers.values():
            teacher(batch)
    flops = size * (3 * flops_of(parts.student, shape) + counter.get_total_flops())
    worth = min(WORTH.get(device.type, 1e12) / max(flops, 1), PIXELS / (size * math.prod(shape)))
    steps = max(min(int(worth), node.get("log_every_n_steps") or 50), 1)
    return Pace(chunk=-(-steps // accumulated(cfg)) * accumulated(cfg), **limits)


def fill_ahead(parts: Parts, device: torch.device, quiet: bool) -> None:
    """Compute every answer of the teachers that a training could ask for."""
    for name, teacher in parts.teachers.items():
        if isinstance(teacher, Cached):
            teacher.to(device)
            with filling(name, quiet) as progress:
                fill(teacher, parts.data.train_views(), parts.data.eval_batch_size, progress)


def described(parts: Parts) -> dict[str, str]:
    """Return what a file of weights has to say beside them, so that they can be loaded."""
    return {} if parts.graft is None else {KEY: parts.graft.text()}


class _BestCheckpoint(ModelCheckpoint):
    """Keeps the epoch with the best validation accuracy, the last of those that are equal.

    Small validation splits have many ties, and where the learning rate falls the later epoch is the better one.
    """

    def check_monitor_top_k(self, trainer: pl.Trainer, current: Tensor | None = None) -> bool:
        best = self.best_model_score
        equal = current is not None and best is not None and bool(current == best)
        return equal or super().check_monitor_top_k(trainer, current)


class _StepCheckpoint(Checkpoint):
    """Saves the last checkpoint every so many batches, at the one point in an epoch that Lightning resumes exactly.

    A ``Checkpoint`` by type, because Lightning calls those after the moving average has seen the step.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, out: Any, batch: Any, _: int) -> None:
        done = batch.first + len(batch.batches)
        if done % self.every == 0 and done < batch.total:
            trainer.save_checkpoint(self.path)


def _given_up(module: DistillationModule) -> Record:
    """Return what the record says of a training that the pruner of its search ended."""
    last = [row for row in module.history if "val/accuracy" in row][-1]
    return {
        "status": "pruned",
        "pruned": {"epoch": int(last["epoch"]), "val": last["val/accuracy"]},
        "epochs": len(module.history),
        "seconds": module.seconds,
        "history": module.history,
    }


def _outcome(cfg: Config, parts: Parts, trainer: pl.Trainer, folder: Path) -> Record:
    """Return everything the record says of a finished training; writes the student's weights."""
    module, student = parts.module, parts.student
    device, most = module.device, peak.peak(module.device)  # before the evaluation
    logits, last = _tested(cfg, parts, device)
    chosen = last
    if parts.data.eval_names[0] == "val":
        best = torch.load(folder / BEST, map_location="cpu", weights_only=True)
        if best["global_step"] != trainer.global_step:  # else those are the weights that were just tested
            module.load_state_dict(best["state_dict"])
            logits, chosen = _tested(cfg, parts, device)
    if parts.teachers and all(teacher.sees_pixels for teacher in parts.teachers.values()):
        chosen |= _taught(cfg, parts, logits, device)
    weights = {k: v.detach().cpu().contiguous() for k, v in student.network.state_dict().items()}
    save_file(weights, folder / STUDENT, described(parts))
    export = getattr(student.network, "save_transformers", None)
    if export is not None:
        export(folder / TRANSFORMERS, input_spec(student.network, parts.data.mean, parts.data.std))
    history = module.history
    if told := _told_at_the_end(last):
        history[-1] |= told
        write_metrics(folder, history)
    samples = trainer.global_step * accumulated(cfg) * cfg["dataset"]["batch_size"]
    return {
        "status": "complete",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "epochs": len(history),
        "steps": trainer.global_step,
        "seconds": module.seconds,
        "cpu_seconds": module.cpu_seconds,
        "peak_memory": most,
        "samples_per_second": samples / module.seconds,
        **size(student, (parts.data.channels, *parts.data.image_size)),
        "classes": list(parts.data.classes),
        "accuracy": accuracies(history),
        "test": chosen,
        "test_last": last,
        **module.outcome(),
        "history": history,
    }


def _told_at_the_end(last: Record) -> dict[str, float]:
    """Return the columns of metrics.csv that only the last epoch has: what is measured once, after the training."""
    found = {f"test/{name}": value for name, value in last.get("by_kind", {}).items() if value is not None}
    found |= {"test/corrupted": last["corrupted"]["mean"]} if "corrupted" in last else {}
    return found | ({"test/unseen": last["unseen"]} if "unseen" in last else {})


def _tested(cfg: Config, parts: Parts, device: torch.device) -> tuple[Tensor, Record]:
    """Return the student's logits of the test split ``(M, K)``, and what the record says of it."""
    looks, notes, loader = Looks(), parts.data.splits["test"].notes, parts.data.loader("test")
    logits, target = predict(parts.student, loader, device, looks.keep)
    found = measured(parts.data, "test", logits, target) | looks.report(notes.box, notes.kind, parts.data.kinds)
    if cfg["corruptions"]:
        found["corrupted"] = under_corruption(parts.student, loader, device, notes=notes)
    if cfg["unseen_classes"]:
        found["unseen"] = unseen.accuracy(cfg, parts, device)
    return logits, found


def _taught(cfg: Config, parts: Parts, logits: Tensor, device: torch.device) -> Record:
    """Return agreement of the student's logits of the test split ``(M, K)`` with the teachers, and where those look."""
    looks, notes = {name: Looks() for name in parts.teachers}, parts.data.splits["test"].notes
    with ExitStack() as watched:
        for name, teacher in parts.teachers.items():
            watched.enter_context(looks[name].watching(teacher.network))
        answers = (answer(parts.teachers, batch, cfg) for batch in moved(parts.data.loader("test"), device))
        told: Record = {"agreement": agreement(logits, answers)}
    found = {name: look.report(notes.box, notes.kind, parts.data.kinds) for name, look in looks.items()}
    pointing = {name: said["pointing"] for name, said in found.items() if said}
    return told | ({"teacher_pointing": pointing} if pointing else {})


def size(student: Tapped, shape: tuple[int, int, int]) -> dict[str, int]:
    """Return parameters of a network and FLOPs (two a multiply-add) of one image ``(C, H, W)`` through it."""
    return {"params": sum(p.numel() for p in student.network.parameters()), "flops": flops_of(student, shape)}


def flops_of(student: Tapped, shape: tuple[int, int, int]) -> int:
    """Return the FLOPs of one image ``(C, H, W)`` through a network, two a multiply-add."""
    was_training, student = student.training, student.eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        student(torch.zeros(1, *shape, dtype=torch.uint8, device=student.scale.device))
    student.train(was_training)
    return int(counter.get_total_flops())
