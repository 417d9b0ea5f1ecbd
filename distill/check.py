"""Finds every mistake in a config, in plain words, before anything is trained."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from distill.config import Config, Control, Root
from distill.kinds import ANY, UNKNOWN, Kind, accepts, describe, shown, union
from distill.resolving import resolve
from distill.signatures import makes, mistakes, near, root

TERM_KEYS = ("weight",)
TEACHER_KEYS = ("network", "checkpoint", "weight", "training")
"""Keys of a term and of a teacher that are no arguments of their targets."""
GIVEN = {
    "dataset": ("seed",), "optimizer": ("params",), "lr_scheduler": ("optimizer",),
    "trainer": ("callbacks", "logger", "default_root_dir", "use_distributed_sampler", "num_sanity_val_steps",
                "enable_model_summary", "enable_progress_bar"),
}  # fmt: skip
"""Arguments that distill adds to the target of a group."""
LEAST = {
    "seed": 0, "seeds": 1, "map_batches": 0, "overlays": 0,
    "checkpoint_every": 1, "trainer.max_epochs": 1, "trainer.check_val_every_n_epoch": 1,
    "trainer.accumulate_grad_batches": 1, "trainer.log_every_n_steps": 1,
}  # fmt: skip
CONTROLS = [control.value for control in Control if control is not Control.none]
NEEDED = ("teacher", "loss", "scheduler", "student", "dataset", "optimizer", "trainer")
"""Groups that must be mappings before anything in them can be looked at."""
TRAINING = re.compile(r"teacher\.[^.]+\.training")
"""Keys of what is laid over the run's config to train a teacher, which is looked at as a config of its own."""
WEIGHT = union(Kind("float"), Kind("object", values=("distill.schedules.base.Schedule",)))


@dataclass
class Looked:
    """What can be read off a config by itself.

    Attributes:
        config: with interpolations replaced; ``UNKNOWN`` where they cannot be.
        mistakes: one sentence each.
        repeated: keys of nodes that stand elsewhere in the config too.
        whole: whether everything is there that the parts of a run are made from.
    """

    config: Config
    mistakes: list[str]
    repeated: set[str]
    whole: bool


def problems(cfg: Mapping[str, Any], dry_run: bool = True, tried: set[str] | None = None) -> list[str]:
    """Return one sentence for each mistake in a config; empty when there is none.

    First what can be read off the config, its signatures and its files, and what every part says against its own
    arguments, all at once; if that is clean, a dry run: every training of the comparison is assembled and two images go
    forward and backward through its objective.

    Args:
        cfg: config as :func:`distill.compose` returns it.
        dry_run: also assemble everything.
        tried: fingerprints of what dry runs of other cells of a sweep have shown to work; added to.
    """
    from distill.verdict import Case

    return Case(cfg, dry_run).mistakes(set() if tried is None else tried)


def look(cfg: Mapping[str, Any]) -> Looked:
    """Return what a config itself shows; what its nodes show beside the signatures they name is :func:`compared`."""
    config, found, repeated = resolve(cfg)
    found += _root(config)
    whole = all(field.name in config for field in fields(Root))
    whole = whole and all(isinstance(config.get(group), Mapping) for group in NEEDED)
    if whole:
        found += [
            *_scalars(config), *_out(config), *_terms(config), *_teachers(config), *_cache(config),
            *_trainer(config["trainer"]), *_unseen(config),
        ]  # fmt: skip
    return Looked(config, sentences(found), repeated, whole)


def compared(looked: Looked) -> list[str]:
    """Return the mistakes that show when nodes are compared with the signatures that their targets have in source."""
    return sentences(list(_nodes(looked.config, "", looked.repeated))) if looked.whole else []


def sentences(found: list[str]) -> list[str]:
    """Return each sentence once, on one line."""
    return list(dict.fromkeys(" ".join(sentence.split()) for sentence in found))


def _root(config: Config) -> list[str]:
    """Compare the scalars of the root with their types; name keys that are unknown or missing."""
    known = list(root())
    found = [f"{k}={shown(v)}: no such key; {near(k, known)}" for k, v in config.items() if k not in known]
    found += [f"{k}: missing; every config has it, as distill.compose() returns it" for k in known if k not in config]
    for key, value in config.items():
        kind = root().get(key, ANY)
        if not accepts(kind, value.value if isinstance(value, Enum) else value, makes):
            found.append(f"{key}={shown(value)}: must be {describe(kind)}")
    for key in NEEDED:
        if key in config and not isinstance(config[key], Mapping) and config[key] is not UNKNOWN:
            found.append(f"{key}={shown(config[key])}: must be a node of conf/{key}; choose one with {key}=NAME")
    return found


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
    if config["together"] is True and config["trainer"].get("devices") not in (1, "1", "auto"):
        yield f"together=true: trains on one device; set trainer.devices=1, not {shown(config['trainer']['devices'])}"
    if config["control"] in CONTROLS and not config["teacher"]:
        yield f"control={config['control']}: there is no teacher; choose one with teacher=..., or control=none"
    decay = config["ema_decay"]
    if isinstance(decay, int | float) and not 0 <= decay < 1:
        yield f"ema_decay={decay}: must be in [0, 1), such as 0.999; null averages nothing"


def _unseen(config: Config) -> Iterator[str]:
    unseen, kept = config["unseen_classes"], config["dataset"].get("class_subset")
    if not isinstance(unseen, list) or not isinstance(kept, int | list | None):
        return
    if kept is None:
        yield f"unseen_classes={unseen}: training shows every class; leave some out with dataset.class_subset"
    elif shown := [n for n in unseen if n in (range(kept) if isinstance(kept, int) else kept)]:
        yield f"unseen_classes={unseen}: training shows {shown[0]}, which is in dataset.class_subset={kept}"


def _out(config: Config) -> Iterator[str]:
    if not isinstance(config["out"], str):
        return
    folder = Path(config["out"]).expanduser().absolute()
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        yield f"out={config['out']}: {there} is a file, not a folder; choose another folder"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"out={config['out']}: {there} cannot be written to; choose another folder"


def _terms(config: Config) -> Iterator[str]:
    if not config["loss"]:
        yield "loss=[]: there is nothing to minimise; choose at least one term, such as loss=[ce,kd]"
    for name, node in config["loss"].items():
        key = f"loss.{name}"
        if not isinstance(node, Mapping) or "_target_" not in node:
            yield f"{key}={shown(node)}: must be a node with a _target_; to leave the term out write ~{key}"
        elif "weight" not in node:
            yield f"{key}.weight: missing; every term has one: set +{key}.weight=1.0"
        elif not accepts(WEIGHT, node["weight"], makes):
            yield f"{key}.weight={shown(node['weight'])}: must be {describe(WEIGHT)}"


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
        if not accepts(Kind("float"), weight, makes) or weight is not UNKNOWN and not weight > 0:
            yield f"{key}.weight={shown(weight)}: must be a number above 0"


def _cache(config: Config) -> Iterator[str]:
    node = config["cache"]
    if node and (not isinstance(node, Mapping) or "_target_" not in node):
        yield f"cache={shown(node)}: must be a node of conf/cache; choose cache=on or cache=off, then change its keys"


def _nodes(value: Any, path: str, repeated: set[str]) -> Iterator[str]:
    if isinstance(value, list):
        for i, below in enumerate(value):
            yield from _nodes(below, f"{path}[{i}]", repeated)
    if not isinstance(value, Mapping) or path in repeated or TRAINING.fullmatch(path):
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
    """Check amounts that Lightning would only refuse once it starts."""
    devices = node.get("devices", "auto")
    wanted = len(devices) if isinstance(devices, list) else devices
    if isinstance(wanted, int) and (wanted == 0 or wanted < -1):
        yield f"trainer.devices={shown(devices)}: must be at least 1, or -1 or auto for all"
    share = node.get("limit_train_batches")
    if isinstance(share, int | float) and not share > 0:
        yield f"trainer.limit_train_batches={share}: must be above 0; 1.0 is all batches"
