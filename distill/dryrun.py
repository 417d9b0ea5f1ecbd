"""Makes the parts of a run one by one, then together for one batch of two images; nothing is trained or written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from distill import unseen
from distill.assemble import Parts, assemble, build_teacher, make_data
from distill.cache.build import refuse
from distill.check import TERM_KEYS
from distill.comparison import alone, teacher_config
from distill.config import IRRELEVANT, Config, ConfigError, build, fingerprint, resolved
from distill.data.base import Views
from distill.fit import taught
from distill.kinds import UNKNOWN, shown
from distill.losses.base import Loss
from distill.overlays import require_source

Make = Callable[[Any, str], Any]


def refusals(config: Config, known: Sequence[str], repeated: set[str], tried: set[str]) -> list[str]:
    """Return what each part of a config says against its own arguments, one not hiding another.

    Args:
        config: with interpolations replaced, ``UNKNOWN`` where they cannot be.
        known: mistakes found before; parts that have one are left alone.
        repeated: keys of nodes that stand elsewhere in the config too.
        tried: fingerprints of networks and data that can be made, so that a sweep makes each once; added to.
    """
    found: list[str] = []
    bad_schedule = any(sentence.startswith("scheduler.") for sentence in known)

    def attempt(node: Mapping[str, Any], key: str, make: Make) -> Any:
        wrong = any(re.match(rf"{re.escape(key)}[.=:\[]", sentence) for sentence in known)
        if wrong or _has_unknown(node) or bad_schedule and any(k.startswith(f"{key}.") for k in repeated):
            return None
        try:
            with torch.random.fork_rng():
                return make(node, key)
        except Exception as error:
            for sentence in _sentences(error):
                cause = sentence.removeprefix(f"{key}: ")
                # a schedule that a term interpolates is made with the term once more
                if not any(earlier.endswith(cause) for earlier in found):
                    found.append(_named(cause, node, key))
        return None

    def attempt_once(node: Mapping[str, Any], key: str, make: Make) -> None:
        name = fingerprint([key, node])
        if name not in tried and attempt(node, key, make) is not None:
            tried.add(name)

    for name, node in config["scheduler"].items():
        attempt(node, f"scheduler.{name}", build)
    losses = {}
    for name, node in config["loss"].items():
        if not isinstance(node, Mapping):
            continue
        losses[name] = attempt(node, f"loss.{name}", lambda n, k: build(n, k, drop=TERM_KEYS))
        if isinstance(node.get("weight"), Mapping):
            attempt(node["weight"], f"loss.{name}.weight", build)
    attempt_once(config["dataset"], "dataset", lambda n, k: make_data(config))
    attempt_once(config["student"], "student", build)
    for name, node in config["teacher"].items():
        if isinstance(node, Mapping):
            attempt_once(node, f"teacher.{name}", build_teacher)
    if config["cache"]:
        attempt(config["cache"], "cache", build)
    weights = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = attempt(config["optimizer"], "optimizer", lambda n, k: build(n, k, partial=True)(weights))
    if optimizer is not None and config["lr_scheduler"]:
        attempt(config["lr_scheduler"], "lr_scheduler", lambda n, k: build(n, k, partial=True)(optimizer))
    attempt(config["trainer"], "trainer", _make_trainer)
    found += _unmixed(config, losses)
    return found if any(s.startswith("loss") for s in (*known, *found)) else [*found, *_needless(config, losses)]


def _has_unknown(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return value is UNKNOWN or any(map(_has_unknown, inner))


def _make_trainer(node: Config, key: str) -> None:
    from distill.training import quiet_lightning

    quiet_lightning()
    build(node, key, partial=True)(
        logger=False, enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False
    )


def _needless(config: Config, losses: Mapping[str, Loss | None]) -> Iterator[str]:
    """Give a sentence where terms read a teacher that is not there, or none reads the one that is."""
    readers = [n for n, made in losses.items() if (made is None or made.reads_teacher) and config["loss"][n]["weight"]]
    listed = f"loss=[{','.join(losses)}]"
    if readers and not config["teacher"]:
        yield f"{listed}: {readers[0]} reads a teacher and there is none; choose one with teacher=..., or leave it out"
    if config["teacher"] and not readers:
        names = ",".join(config["teacher"])
        yield f"teacher=[{names}]: no term of {listed} with a weight reads a teacher; add kd, or take teacher=[]"


def _unmixed(config: Config, losses: Mapping[str, Loss | None]) -> Iterator[str]:
    """Give a sentence for each term that cannot be taken of mixed images."""
    if config["dataset"].get("mix"):
        how = shown(config["dataset"]["mix"])
        for name in (n for n, made in losses.items() if made is not None and not made.mixes):
            yield f"dataset.mix={how}: loss.{name} asks for one class an image; take dataset/mix=none, or ~loss.{name}"


def _named(cause: str, node: Mapping[str, Any], key: str) -> str:
    """Return a sentence that starts with the full key and the value which it is about, as far as that can be told."""
    if cause.startswith((f"{key}.", f"{key}=", f"{key}:")):
        return cause
    if any(cause.startswith(f"{name}.") for name in node):
        return f"{key}.{cause}"
    arguments = {k: v for k, v in node.items() if k != "_target_"}
    about = [k for k in arguments if re.search(rf"\b{re.escape(k)}\b", cause)]
    about = about or [k for k, v in arguments.items() if re.search(rf"(?<![\w.]){re.escape(str(v))}(?![\w.])", cause)]
    if len(about) != 1:
        return f"{key}: {cause}"
    value = arguments[about[0]]
    return f"{key}.{about[0]}" + ("" if isinstance(value, Mapping) else f"={shown(value)}") + f": {cause}"


def failures(cfg: Mapping[str, Any], tried: set[str]) -> list[str]:
    """Return what goes wrong when each training of the comparison is assembled and sees one batch, for one seed.

    Args:
        cfg: config without static mistakes; interpolations may still be in it.
        tried: fingerprints of trainings and datasets that are known to work; added to.
    """
    found: list[str] = []
    if cfg["alone"] and taught(cfg):  # which need not have anything to draw
        found += _attempt("", lambda: {**alone(cfg, cfg["seed"]), "overlays": 0}, tried)
    found += _attempt("", lambda: resolved(cfg if cfg["teacher"] else {**cfg, "cache": {}}), tried)
    if not found:
        for name, node in cfg["teacher"].items():
            if node["checkpoint"] == "train":
                found += _teacher_training(cfg, name, tried)
    return found


def _teacher_training(cfg: Mapping[str, Any], name: str, tried: set[str]) -> list[str]:
    from distill.check import problems

    key = f"teacher.{name}.training: "
    try:
        config = teacher_config(cfg, name)
    except Exception as error:
        return [f"{key}{sentence}" for sentence in _sentences(error)]
    found = [f"{key}{sentence}" for sentence in problems(config, dry_run=False)]
    return found or _attempt(key, lambda: config, tried)


def _attempt(title: str, make: Callable[[], Config], tried: set[str]) -> list[str]:
    try:
        config = make()
        drawn = config["overlays"]
        name = fingerprint(
            {"drawn": bool(drawn), **{k: v for k, v in config.items() if k not in {*IRRELEVANT, "seed"}}}
        )
        if name in tried:
            return []
        with torch.random.fork_rng():
            parts = assemble(config)
            data = fingerprint(config["dataset"])
            if data not in tried:
                parts.data.verify()
                tried.add(data)
            if config["cache"]:
                policy = build(config["cache"], "cache")
                for teacher in parts.teachers.values():
                    refuse(policy, teacher, parts.data)
            unseen.require(config, parts)
            _one_batch(parts)
            if drawn:
                require_source(parts, drawn, config["student"])
        tried.add(name)
    except Exception as error:
        return [f"{title}{sentence}" for sentence in _sentences(error)]
    return []


def _one_batch(parts: Parts) -> None:
    """Send two images forward and backward through the objective."""
    images = Views(parts.data.splits["train"], parts.data.augment, 0, parts.data.mix)
    batch = images.__getitems__([(i, 0) for i in range(min(2, len(images)))])
    parts.module.train()
    seen, views = parts.objective.expand(batch)
    student = parts.student(seen.inputs, seen.text).divided(views)
    told = parts.module.teach(seen) if parts.teachers else None
    teacher = None if told is None else told.divided(views)
    total, _ = parts.objective(student, teacher, batch)
    if not bool(torch.isfinite(total)):
        raise ValueError(f"loss: is {total.item()} on the first two images; look at weights and temperatures")
    if total.requires_grad:
        total.backward()


def _sentences(error: Exception) -> list[str]:
    """Return what an error says; the kind of error too where that was not written for a reader."""
    if isinstance(error, ConfigError):
        return error.problems
    text = " ".join(str(error).split())[:300]
    return [text if isinstance(error, ValueError | FileNotFoundError) and text else f"{type(error).__name__}: {text}"]
