"""bench memory: peak resident memory of a training against the hand-written loop's, each in a fresh process."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from distill.bench.measured import Measured
from distill.peak import resident

BARE, OURS, TORCH = "bare loop", "distill", "bare loop, torch alone"
PROGRAMS = {
    "child": "from distill.bench.memory import child; child()",
    "torch": "import torch, torchvision; from distill.peak import resident; print(resident())",
}


def measure(options: argparse.Namespace) -> Measured:
    """Measure the peak of some steps in MiB, and of it what came after the imports, which are the same on both sides.

    The third side is what the loop would take if it had imported torch and torchvision only.
    """
    import torch

    from distill.bench.work import PAIR, limited, sized
    from distill.config import compose

    steps = options.steps or 4
    cfg = limited(sized(compose([*PAIR, *options.overrides]), steps), steps)
    ask = partial(_ask, options.threads or torch.get_num_threads())
    rounds: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        (alone,) = ask("torch")
        for side in (BARE, OURS):
            imported, most = ask("child", side, json.dumps(cfg), str(steps))
            found = {side: most, f"{side}: after imports": most - imported}
            if side == BARE:
                found[TORCH] = most - imported + alone
            for name, value in found.items():
                rounds.setdefault(name, []).append(value)
    ratios: list[tuple[str, str, str, float | None]] = [
        ("total", OURS, BARE, 1.10),
        ("after imports", f"{OURS}: after imports", f"{BARE}: after imports", None),
        ("total / torch alone", OURS, TORCH, None),
    ]
    return Measured(f"memory: CE + KD, peak of {steps} steps", "MiB", rounds, ratios)


def _ask(threads: int, program: str, *arguments: str) -> list[float]:
    """Return the numbers that a fresh process prints."""
    from distill.config import ConfigError

    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", PROGRAMS[program], *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError([f"{' '.join(arguments[:1])}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"])
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


def child() -> None:
    """Train what the command line says; print the peak after the imports, and at the end."""
    import distill.training
    from distill.bench.loops import bare, framework

    side, cfg, steps = sys.argv[1:]
    config: dict[str, Any] = json.loads(cfg)
    distill.training.quiet_lightning()
    imported = resident()
    if side == BARE:
        bare(config, int(steps))
    else:
        framework(config)
    print(imported, resident())
