"""Stands in for `distill` in a fork server: its import replaces the command line by a few small programs."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from distill import cli

imported = os.getpid()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the first argument says."""
    word, *more = arguments or ()
    if word == "train":
        _train(Path(more[0]))
    elif word == "exit":
        return int(more[0])
    elif word == "raise":
        raise ValueError(more[0])
    elif word == "say":
        sys.exit(more[0])
    elif word == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        print("ready", flush=True)
        time.sleep(60)
    return 0


def _train(folder: Path) -> None:
    said = {
        "forked_from": imported,
        "pid": os.getpid(),
        "session": os.getsid(0),
        "input": sys.stdin.read(),
        "argv": sys.argv[1:],
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }
    (folder / "summary.json").write_text(json.dumps(said))


cli.main = main  # type: ignore[assignment]
