"""`distill cache`: computes what teachers say of all training views ahead of time, or lists what was kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.commands.preflight import Findings, look, parsed
from distill.config import Config, ConfigError

HELP = """\
Computes the answers of each teacher of a config for every training sample in every view, before any training. Takes
the overrides of distill train. A teacher is trained first where its checkpoint says so. What is there already is not
computed again; several processes at once share the work; an interrupted one goes on.

  distill cache teacher=resnet32x4 dataset=cifar100 dataset.root=DIR
  distill cache teacher=timm teacher.timm.network.name=resnet18 dataset=image_folder dataset.root=DIR cache.views=10
  distill cache --list
"""
GB = 1e9

if TYPE_CHECKING:
    import torch


def main(arguments: Sequence[str]) -> int:
    """Fill the caches of a config, or list those there are; return the exit code."""
    parser = argparse.ArgumentParser(
        "distill cache", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="config overrides, as for distill train")
    parser.add_argument("--config-dir", help="folder with config groups of your own")
    parser.add_argument("--list", action="store_true", help="list caches, their size and what is in them")
    parser.add_argument("--folder", help="with --list: look there and not in distill's cache folder")
    line = parser.parse_intermixed_args(list(arguments))
    if line.list:
        return _list(line.folder)
    from distill.commands.train import report
    from distill.fit import TERMINATED, Interrupted, TrainingFailed
    from distill.modules.base import DivergenceError

    overrides = list(line.overrides)
    if not any(text.startswith("cache=") for text in overrides):
        overrides.insert(0, "cache=on")
    folder = ["--config-dir", line.config_dir] if line.config_dir else []
    try:
        found = look(parsed([*overrides, *folder]))
        config = found.cells[0].config if found.cells else {}
        if not found.mistakes and not config["cache"]:
            found.mistakes.append("cache=off: there is nothing to compute; leave it out, or set cache=on")
        if not found.mistakes and not config["teacher"]:
            found.mistakes.append("teacher=[]: there is nobody to ask; choose a teacher")
        if found.mistakes:
            return report(found, "nothing was computed")
        for text in _filled(config, list(line.overrides)):
            print(text, flush=True)
    except (ConfigError, ValueError) as error:
        wrong = error.problems if isinstance(error, ConfigError) else [" ".join(str(error).split())]
        return report(Findings(wrong), "nothing more was computed")
    except (OSError, TrainingFailed, Interrupted, DivergenceError) as error:
        print(error, file=sys.stderr)
        return TERMINATED if isinstance(error, Interrupted) else 1
    return 0


def _list(folder: str | None) -> int:
    from distill.cache import default_folder
    from distill.cache.listing import caches

    where = Path(folder).expanduser() if folder else default_folder()
    found = list(caches(where))
    for cache in found:
        share = 100 * cache.filled / max(cache.slots, 1)
        print(f"{cache.folder}\n  {cache.disk / GB:.2f} of {cache.size / GB:.2f} GB, {share:.1f} % filled")
        print(f"  {cache.summary}")
    total = sum(cache.disk for cache in found) / GB
    print(f"{len(found)} teacher caches in {where}, {total:.2f} GB; delete a folder to be rid of it")
    return 0


def _filled(cfg: Config, overrides: list[str]) -> Iterator[str]:
    """Fill the cache of every teacher; give a line for each that is complete."""
    from distill.assemble import assemble
    from distill.cache.build import make_cache
    from distill.cache.fill import fill
    from distill.comparison import with_trained_teachers
    from distill.config import build, resolved
    from distill.progress import filling

    ready, _ = with_trained_teachers(cfg, overrides)
    policy = build(resolved(cfg)["cache"], "cache")
    # all views there are do not depend on a seed, drawn ones do
    seeds = [cfg["seed"] + i for i in range(cfg["seeds"] if policy.views != "all" else 1)]
    for seed in seeds:
        plain = resolved({**ready, "seed": seed, "cache": {}})
        parts = assemble(plain)
        for name, teacher in parts.teachers.items():
            cached = make_cache(policy, teacher, parts.data, name)
            cached.to(_device(plain["trainer"].get("accelerator", "auto")))
            parts.data.slots = cached.slots
            with filling(name, cfg["quiet"]) as progress:
                done = fill(cached, parts.data.train_views(), parts.data.eval_batch_size, progress)
            size = sum(path.stat().st_size for path in cached.store.folder.iterdir()) / GB
            yield (
                f"teacher {name}: {done.records:,} answers, {size:.2f} GB in {cached.store.folder}; "
                f"{done.forwards:,} computed in {done.seconds:.1f} s"
            )


def _device(accelerator: str) -> torch.device:
    import torch

    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")
