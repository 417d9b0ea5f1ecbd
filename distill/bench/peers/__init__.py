"""Public code timed beside ours: each peer in a process of its own, from a clone that the user made.

A module of this package imports a peer's own networks, loss, loop, transforms and loader settings; nothing of them is
copied. Images come from memory in the place of torchvision's CIFAR-100, and on a CPU ``cuda()`` does nothing.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from os import environ, pathsep
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("mdistiller", "repdistiller", "torchdistill")
"""Peers; the module ``distill.bench.peers.NAME`` has ``epochs(work: Work) -> Epochs``."""

Epochs = Callable[[int], Callable[[], float]]
"""For a number of steps, what trains an epoch of as many and returns its mean loss."""


class Work(NamedTuple):
    """What a peer is asked to train.

    Attributes:
        folder: the clone.
        student: config node of the network.
        teacher: config node of the network.
        batch_size: of a step.
        steps: that are timed.
        threads: of PyTorch.
        device: ``"cpu"`` or ``"cuda"``.
    """

    folder: str
    student: dict[str, Any]
    teacher: dict[str, Any]
    batch_size: int
    steps: int
    threads: int
    device: str


def named(peers: Sequence[str]) -> dict[str, str]:
    """Return the folder of each peer of the command line.

    Raises:
        ConfigError: when there is no such peer or folder.
    """
    from distill.config import ConfigError

    found = dict(text.partition("=")[::2] for text in peers)
    problems = [f"--peer {name}: choose one of {', '.join(NAMES)}" for name in found if name not in NAMES]
    problems += [f"--peer {name}={path}: no such folder" for name, path in found.items() if not Path(path).is_dir()]
    if problems:
        raise ConfigError(problems)
    return {name: str(Path(path).resolve()) for name, path in found.items()}


def ask(name: str, work: Work, images: Path) -> tuple[float, float]:
    """Return milliseconds a step of a peer, and its mean loss, from a process of its own.

    Args:
        name: of the peer.
        work: what to train.
        images: ``.npz`` with ``images`` (N, H, W, C) of uint8 and ``targets`` (N,).

    Raises:
        ConfigError: when the peer fails, such as for a package that it needs.
    """
    from distill.config import ConfigError

    here = str(Path(__file__).parents[3])
    env = {**environ, "PYTHONPATH": pathsep.join([here, environ.get("PYTHONPATH", "")])}
    env |= {"CUDA_VISIBLE_DEVICES": ""} if work.device == "cpu" else {}
    code = "from distill.bench.peers import child; child()"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, name, json.dumps(work), str(images)], cwd=folder, env=env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise ConfigError([f"--peer {name}={work.folder}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"])
    milliseconds, loss = json.loads(done.stdout.splitlines()[-1])
    return float(milliseconds), float(loss)


def child() -> None:
    """Time the peer that the command line names, after an epoch of one step to warm up; print what it took."""
    import torch

    from distill.bench.work import in_an_epoch

    name, job, images = sys.argv[1:]
    work = Work(*json.loads(job))
    torch.set_num_threads(work.threads)
    torch.manual_seed(0)
    sys.path.insert(0, work.folder)
    show = from_memory(images)
    if work.device == "cpu":
        torch.Tensor.cuda = torch.nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign, assignment]
    make: Epochs = importlib.import_module(f"distill.bench.peers.{name}").epochs(work)
    losses: list[float] = []

    def train(steps: int) -> float:
        show(steps * work.batch_size)
        epoch = make(steps)
        began = time.perf_counter()
        losses.append(epoch())
        return time.perf_counter() - began

    train(1)
    print(json.dumps([in_an_epoch(train, work.steps), losses[-1]]))


def from_memory(path: str) -> Callable[[int], None]:
    """Have torchvision's CIFAR-100 hold images of a file; return what says how many."""
    import numpy as np
    from torchvision.datasets import CIFAR10

    images, targets = np.load(path)["images"], np.load(path)["targets"].tolist()
    shown = len(images)

    def init(self: Any, root: str, train: bool = True, transform: Any = None, target_transform: Any = None,
             download: bool = False) -> None:  # fmt: skip
        self.root, self.train, self.transform, self.target_transform = root, train, transform, target_transform
        self.data, self.targets = images[:shown], targets[:shown]

    def show(count: int) -> None:
        nonlocal shown
        shown = count

    CIFAR10.__init__ = init
    return show
