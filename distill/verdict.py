"""Verdict: what only torch, Lightning and the parts themselves can say of a config; remembered once it was said."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from distill import memo
from distill.check import Looked, compared, look, sentences
from distill.config import Config
from distill.kinds import shown
from distill.resolving import taken, without
from distill.signatures import imported_signature, near

UNSEEN = ("seed", "seeds", "out", "check", "rerun", "quiet", "tags", "checkpoint_every", "trial")
"""Root keys that no verdict depends on."""
PASSING = re.compile(r"\b(?:OS|Memory|OutOfMemory|Permission|Timeout|Connection)\w*Error\b")
"""Errors of the moment, not of the config."""
HUBS = ("distill.networks.hub", "distill.data.hub")
"""Modules that may find tomorrow what they do not find today."""


class Case:
    """A config that is looked into, as deep as is asked for and no deeper.

    Args:
        cfg: config as :func:`distill.compose` returns it.
        dry_run: also assemble every training of the comparison, unless there is a mistake.

    Attributes:
        looked: what the config itself shows.
        lasting: whether its mistakes will be the same tomorrow, if nothing changes.
    """

    def __init__(self, cfg: Mapping[str, Any], dry_run: bool) -> None:
        self.cfg, self.dry_run = cfg, dry_run
        self.looked = look(cfg)
        self._seen = [{k: v for k, v in x.items() if k not in UNSEEN} for x in (cfg, self.looked.config)]
        self._name = memo.key("verdict", self._seen, dry_run, bool(self.looked.mistakes))
        record = memo.recall(self._name) if self.looked.whole else {"sentences": []}
        self._remembered = None if record is None else [str(sentence) for sentence in record["sentences"]]
        self.lasting = self.remembered

    @property
    def remembered(self) -> bool:
        """Whether all of its mistakes are known without torch."""
        return self._remembered is not None

    @cached_property
    def quick(self) -> list[str]:
        """Mistakes that show without torch: all of them where the verdict is remembered, else those in source."""
        return [*self.looked.mistakes, *(compared(self.looked) if self._remembered is None else self._remembered)]

    def mistakes(self, tried: set[str]) -> list[str]:
        """Return one sentence for each mistake, those too that show when checkpoints are read and parts are made.

        Args:
            tried: fingerprints of trainings and datasets that are known to work; added to.
        """
        if self._remembered is None:
            with memo.network_watched() as asked:
                found = sentences(_found(self.cfg, self.looked, self.quick, self.dry_run, tried))
            self._remembered = [*self.quick[len(self.looked.mistakes) :], *found]
            hubs = asked or any(name in sys.modules for name in HUBS)
            if not self._remembered or not hubs and not PASSING.search(" ".join(found)):
                memo.keep(self._name, {"sentences": self._remembered}, self._seen[1], self._remembered)
            self.lasting = memo.recall(self._name) is not None
        return list(dict.fromkeys([*self.looked.mistakes, *self._remembered]))


def _found(cfg: Mapping[str, Any], looked: Looked, known: list[str], dry_run: bool, tried: set[str]) -> list[str]:
    config = looked.config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself will say them
        from distill.dryrun import failures, refusals

        found = [*_imports(config, known), *_checkpoints(config), *_trainer(config["trainer"])]
        wrong = {sentence.partition("=")[0] for sentence in [*known, *found]}
        config = without(config, {where for where, source in taken(cfg) if source in wrong})
        found += refusals(config, [*known, *found], looked.repeated, tried)
        if not known and not found and dry_run:
            found += failures(cfg, tried)
    return found


def _imports(value: Any, known: list[str], path: str = "") -> Iterator[str]:
    """Give a sentence for each target whose module cannot be imported, though its source could be read."""
    if not isinstance(value, Mapping | list):
        return
    for key, below in value.items() if isinstance(value, Mapping) else enumerate(value):
        where = f"{path}.{key}" if path else str(key)
        if key != "_target_":
            yield from _imports(below, known, where if isinstance(value, Mapping) else f"{path}[{key}]")
        elif isinstance(below, str) and not any(sentence.startswith(f"{where}={below}:") for sentence in known):
            try:
                imported_signature(below)
            except ImportError as error:
                yield f"{where}={below}: {error}"


def _checkpoints(config: Config) -> Iterator[str]:
    for name, node in config["teacher"].items():
        path = node.get("checkpoint") if isinstance(node, Mapping) and node.get("network") is not None else None
        if isinstance(path, str) and path not in ("train", "built") and Path(path).is_file():
            try:
                read(path)
            except ValueError as error:
                yield f"teacher.{name}.checkpoint={path}: {error}; give another file, or train, or built"
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


def _trainer(node: Config) -> Iterator[str]:
    """Check what Lightning would only refuse once it starts: devices and strategy."""
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
    if isinstance(wanted, int) and accelerator in ("gpu", "cuda", "auto") and wanted > gpus > 0:
        yield f"trainer.devices={shown(devices)}: this machine has {gpus}; use at most as many"
