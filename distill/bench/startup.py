"""bench startup: seconds until a command has answered, and until the first optimizer step beside Lightning's import."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from distill.bench.measured import Measured, alternate
from distill.config import ConfigError

COMMAND = "import sys; from distill.cli import main; sys.exit(main(sys.argv[1:]))"
LIGHT = """
import sys
from distill.cli import main
main(sys.argv[1:])  # of an empty folder a table says that there is nothing to show, which is no success
sys.exit(f"imported {found}" if (found := {"torch", "pytorch_lightning"} & set(sys.modules)) else 0)
"""
STEP = """
import os, sys, torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from distill.cli import main
register_optimizer_step_post_hook(lambda *_: os._exit(0))  # the process ends with its first step
main(sys.argv[1:])
sys.exit("ended without an optimizer step")
"""
SHORT, FIRST = 0.5, 1.5
"""Targets in seconds: of a command that needs no torch, and of a first step beyond the import of Lightning."""


def measure(options: argparse.Namespace) -> Measured:
    """Time commands in fresh processes, with what earlier ones remembered, in a folder that is empty each time.

    Raises:
        ConfigError: when the config is wrong, or a command imports torch that has no need to.
    """
    short = {
        "--help": ["--help"], "train --help": ["train", "--help"], "check": ["check", *options.overrides],
        "info": ["info", *options.overrides], "table": ["table", "."],
    }  # fmt: skip
    environment = dict(os.environ)
    if options.threads:
        environment["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:

        def run(code: str, arguments: Sequence[str] = ()) -> float:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                words = (
                    [f"out={out}/runs"] if arguments and arguments[0] == "train" and "--help" not in arguments else []
                )
                began = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, "-c", code, *arguments, *words], cwd=folder, env=environment, capture_output=True,
                    text=True, check=False,
                )  # fmt: skip
                seconds = time.perf_counter() - began
            if done.returncode:
                raise ConfigError([f"distill {' '.join(arguments)}: {done.stderr.strip()}"])
            return seconds

        for words in (["train", "--help"], ["check", *options.overrides], ["info", *options.overrides]):
            run(COMMAND, words)  # what is asked for the first time takes torch
        sides: dict[str, Callable[[], float]] = {
            name: lambda words=words: run(LIGHT, words)  # type: ignore[misc]
            for name, words in short.items()
        }
        sides["import pytorch_lightning"] = lambda: run("import os, pytorch_lightning; os._exit(0)")
        sides["train, first optimizer step"] = lambda: run(STEP, ["train", *options.overrides])
        rounds = alternate({f"distill {k}" if k in short else k: v for k, v in sides.items()}, options.rounds)
    return Measured(f"startup: {' '.join(options.overrides) or 'default config'}", "s", rounds, notes=_notes(rounds))


def _notes(rounds: dict[str, list[float]]) -> list[str]:
    pairs = zip(rounds["train, first optimizer step"], rounds["import pytorch_lightning"], strict=True)
    beyond = sorted(step - imported for step, imported in pairs)
    slowest = max(max(values) for name, values in rounds.items() if name.startswith("distill "))
    return [
        f"commands that need no torch, the slowest of all: {slowest:.3f} s; target {SHORT} s",
        f"first optimizer step beyond importing Lightning: {beyond[len(beyond) // 2]:.3f} s  ({beyond[0]:.3f} to "
        f"{beyond[-1]:.3f}); target {FIRST} s",
    ]
