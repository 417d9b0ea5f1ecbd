"""Finds every mistake in a config, in plain words, before anything is trained."""

from __future__ import annotations

import os
import typing
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from distill.config import Config, Root
from distill.resolving import resolve
from distill.signatures import UNKNOWN, accepts, describe, mistakes, near, shown

TERM_KEYS = ("weight",)
TEACHER_KEYS = ("network", "checkpoint", "weight", "training")
GIVEN = {
    "dataset": ("seed",), "optimizer": ("params",), "lr_scheduler": ("optimizer",),
    "trainer": ("callbacks", "logger", "default_root_dir", "use_distributed_sampler", "num_sanity_val_steps",
                "enable_model_summary", "enable_progress_bar"),
}  # fmt: skip
"""Arguments that distill adds to the target of a group."""
LEAST = {
    "seed": 0, "seeds": 1, "checkpoint_every": 1, "trainer.max_epochs": 1, "trainer.check_val_every_n_epoch": 1,
    "trainer.accumulate_grad_batches": 1, "trainer.log_every_n_steps": 1,
}  # fmt: skip
NEEDED = ("teacher", "loss", "scheduler", "student", "dataset", "optimizer", "trainer")
"""Groups that must be mappings before anything in them can be looked at."""


def problems(cfg: Mapping[str, Any], dry_run: bool = True, tried: set[str] | None = None) -> list[str]:
    """Return one sentence for each mistake in a config; empty when there is none.

    First what can be read off the config, its signatures and its files, all at once; if that is clean, a dry run: every
    training of the comparison is assembled and two images go forward and backward through its objective.

    Args:
        cfg: config as :func:`distill.compose` returns it.
        dry_run: also assemble everything.
        tried: fingerprints of what dry runs of other cells of a sweep have shown to work; added to.
    """
    config, found, repeated = resolve(cfg)
    found += _root(config)
    if all(field.name in config for field in fields(Root)) and all(
        isinstance(config.get(group), Mapping) for group in NEEDED
    ):
        found += _groups(config, repeated)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run itself will say them
            from distill.dryrun import failures, refusals

            found += refusals(config, found, repeated)
            if not found and dry_run:
                found += failures(cfg, set() if tried is None else tried)
    return list(dict.fromkeys(" ".join(sentence.split()) for sentence in found))


def _root(config: Config) -> list[str]:
    """Compare the scalars of the root with their types; name keys that are unknown or missing."""
    types_ = typing.get_type_hints(Root)
    known = [field.name for field in fields(Root)]
    found = [f"{k}={shown(v)}: no such key; {near(k, known)}" for k, v in config.items() if k not in known]
    found += [f"{k}: missing; every config has it, as distill.compose() returns it" for k in known if k not in config]
    for key, value in config.items():
        hint = types_.get(key, Any)
        if isinstance(hint, type) and issubclass(hint, Enum):
            allowed = [choice.value for choice in hint]
            if value not in allowed and value not in list(hint) and value is not UNKNOWN:
                found.append(f"{key}={shown(value)}: must be one of {', '.join(allowed)}")
        elif not accepts(hint, value):
            found.append(f"{key}={shown(value)}: must be {describe(hint)}")
    for key in NEEDED:
        if key in config and not isinstance(config[key], Mapping) and config[key] is not UNKNOWN:
            found.append(f"{key}={shown(config[key])}: must be a node of conf/{key}; choose one with {key}=NAME")
    return found


def _groups(config: Config, repeated: set[str]) -> list[str]:
    return [
        *_scalars(config), *_out(config), *_terms(config), *_teachers(config), *_cache(config), *_checkpoint(config),
        *_nodes(config, "", repeated), *_trainer(config["trainer"]),
    ]  # fmt: skip


def _scalars(config: Config) -> Iterator[str]:
    for key, low in LEAST.items():
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, int) and not isinstance(value, bool) and value < low:
            yield f"{key}={value}: must be at least {low}"
    epochs, every = (config["trainer"].get(key) for key in ("max_epochs", "check_val_every_n_epoch"))
    if isinstance(epochs, int) and isinstance(every, int) and every > 0 and epochs % every:
        yield (
            f"trainer.check_val_every_n_epoch={every}: must divide trainer.max_epochs={epochs}, "
            "so that the last epoch is evaluated"
        )
    decay = config["ema_decay"]
    if isinstance(decay, int | float) and not 0 <= decay < 1:
        yield f"ema_decay={decay}: must be in [0, 1), such as 0.999; null averages nothing"


def _out(config: Config) -> Iterator[str]:
    if not isinstance(config["out"], str):
        return
    folder = Path(config["out"]).expanduser().absolute()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        yield f"out={config['out']}: {there} is a file, not a folder; choose another folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"out={config['out']}: {there} cannot be written to; choose another folder"


def _checkpoint(config: Config) -> Iterator[str]:
    path = config["ckpt_path"]
    if isinstance(path, str):
        try:
            if "distill" not in read(path):
                yield f"ckpt_path={path}: is no checkpoint of distill; give another, or null to start anew"
        except (ValueError, FileNotFoundError) as error:
            yield f"ckpt_path={path}: {error}; give another, or null to start anew"


def read(path: str) -> Any:
    """Return what a checkpoint holds; whatever a file that is none makes the reader raise becomes one sentence.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read.
    """
    from distill import weights

    try:
        return weights.read(path)
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:  # an unpickler that reads any bytes at all
        raise ValueError(f"checkpoint {path!r} cannot be read: it is no checkpoint") from error


def _terms(config: Config) -> Iterator[str]:
    from distill.schedules.base import Schedule

    if not config["loss"]:
        yield "loss=[]: there is nothing to minimise; choose at least one term, such as loss=[ce,kd]"
    for name, node in config["loss"].items():
        key = f"loss.{name}"
        if not isinstance(node, Mapping) or "_target_" not in node:
            yield f"{key}={shown(node)}: must be a node with a _target_; to leave the term out write ~{key}"
        elif "weight" not in node:
            yield f"{key}.weight: missing; every term has one: set +{key}.weight=1.0"
        elif not accepts(float | Schedule, node["weight"]):
            yield f"{key}.weight={shown(node['weight'])}: must be {describe(float | Schedule)}"


def _teachers(config: Config) -> Iterator[str]:
    for name, node in config["teacher"].items():
        key = f"teacher.{name}"
        if not isinstance(node, Mapping) or "_target_" not in node:
            yield f"{key}={shown(node)}: must be a node with a _target_; to leave it out write ~{key}"
            continue
        for needed in TEACHER_KEYS:
            if needed not in node:
                yield f"{key}.{needed}: missing; let the yaml start with defaults: [base@{name}]"
        checkpoint, weight = node.get("checkpoint", "train"), node.get("weight", 1.0)
        has_network = node.get("network") is not None
        words = checkpoint in ("train", "built") and has_network or checkpoint is UNKNOWN
        if not words and (not isinstance(checkpoint, str) or not Path(checkpoint).is_file()):
            other = ", or train, or built" if has_network else ", for there is no network"
            yield f"{key}.checkpoint={shown(checkpoint)}: there is no such file; give a file{other}"
        elif not words and has_network:
            try:
                read(checkpoint)
            except ValueError as error:
                yield f"{key}.checkpoint={checkpoint}: {error}; give another file, or train, or built"
        if not accepts(float, weight) or weight is not UNKNOWN and not weight > 0:
            yield f"{key}.weight={shown(weight)}: must be a number above 0"


def _cache(config: Config) -> Iterator[str]:
    node = config["cache"]
    if node and (not isinstance(node, Mapping) or "_target_" not in node):
        yield f"cache={shown(node)}: must be a node of conf/cache; choose cache=on or cache=off, then change its keys"


def _nodes(value: Any, path: str, repeated: set[str]) -> Iterator[str]:
    """Compare every node that has a ``_target_`` with its signature."""
    if isinstance(value, list):
        for i, below in enumerate(value):
            yield from _nodes(below, f"{path}[{i}]", repeated)
    if not isinstance(value, Mapping) or path in repeated:
        return
    if "_target_" in value and value["_target_"] is not UNKNOWN:
        group, _, rest = path.partition(".")
        own: tuple[str, ...] = TERM_KEYS if group == "loss" and "." not in rest else ()
        own = TEACHER_KEYS if group == "teacher" and "." not in rest else own
        given = ("network", "checkpoint") if own == TEACHER_KEYS else GIVEN.get(path, ())
        yield from mistakes(value, path, own, given)
    for key, below in value.items():
        yield from _nodes(below, f"{path}.{key}" if path else str(key), repeated)


def _trainer(node: Config) -> Iterator[str]:
    """Check what Lightning would only refuse once it starts: devices, strategy, amounts."""
    import torch
    from pytorch_lightning.accelerators import AcceleratorRegistry
    from pytorch_lightning.strategies import StrategyRegistry

    accelerator, strategy, devices = (node.get(k, "auto") for k in ("accelerator", "strategy", "devices"))
    kinds = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    if isinstance(accelerator, str) and accelerator not in kinds:
        yield f"trainer.accelerator={accelerator}: is unknown; {near(accelerator, kinds)}"
    gpus = torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and not gpus and not torch.backends.mps.is_available():
        yield f"trainer.accelerator={accelerator}: this machine has no such device; use cpu or auto"
    strategies = ["auto", *StrategyRegistry.available_strategies()]
    if isinstance(strategy, str) and strategy not in strategies:
        yield f"trainer.strategy={strategy}: is unknown; {near(strategy, strategies)}"
    wanted = len(devices) if isinstance(devices, list) else devices
    if isinstance(wanted, int) and (wanted == 0 or wanted < -1):
        yield f"trainer.devices={shown(devices)}: must be at least 1, or -1 or auto for all"
    elif isinstance(wanted, int) and accelerator in ("gpu", "cuda", "auto") and wanted > gpus > 0:
        yield f"trainer.devices={shown(devices)}: this machine has {gpus}; use at most as many"
    share = node.get("limit_train_batches")
    if isinstance(share, int | float) and not share > 0:
        yield f"trainer.limit_train_batches={share}: must be above 0; 1.0 is all batches"
