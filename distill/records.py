"""The record of one training: a folder named by fingerprint, a result.json written atomically, a lock against twins."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from distill.packages import Module, module_of

RESULT = "result.json"
_PACKAGE = Path(__file__).parent
Record = dict[str, Any]


def write_text(path: Path, text: str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; NaN and infinity become null, which every reader understands."""
    write_text(path, json.dumps(_finite(value), indent=1, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> Record | None:
    """Return the content of a JSON file, or None where it is absent or not a JSON object."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def is_complete(record: Record | None) -> bool:
    """Whether a record is of a training that ended."""
    return record is not None and record.get("status") == "complete"


@contextlib.contextmanager
def lock(folder: Path, idle: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a run folder for this process; a second process waits. Released by the system however the process ends.

    Args:
        folder: of the run.
        idle: called again and again while another process has it; None to sleep until it is free.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"note: another process is at {folder}; this one waits for it", file=sys.stderr)
            if idle is None:
                fcntl.flock(file, fcntl.LOCK_EX)
            else:
                _poll(file, idle)
        yield


def _poll(file: TextIO, idle: Callable[[], None]) -> None:
    while True:
        idle()
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return


def digest(path: str | Path) -> str:
    """Return 16 hex digits of the SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def code_hash(config: Any = None) -> str:
    """Return 10 hex digits of the source of this package and of every module that a ``_target_`` names."""
    files = {*_PACKAGE.rglob("*.py"), *(module.file for module in modules_of(config) if module.file)}
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(file.name.encode() + file.read_bytes())
    return whole.hexdigest()[:10]


def modules_of(config: Any) -> list[Module]:
    """Return the modules of the user's that targets name: those that are neither installed nor distill's own."""
    found = {target: module_of(target) for target in targets(config)}
    own = [module for module in found.values() if module is not None and module.file is not None]
    return [m for m in own if "site-packages" not in str(m.file) and not str(m.file).startswith(f"{_PACKAGE}{os.sep}")]


def targets(node: Any) -> Iterator[str]:
    """Give every ``_target_`` in a config."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def provenance() -> Record:
    """Return git state, versions and machine: what a reader needs to believe a number."""
    return {"git": _git(), "versions": versions(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in ("distill", "torch", "pytorch-lightning", "hydra-core", "torchvision", "timm", "transformers", "numpy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _git() -> Record:
    where = Path(__file__).parent

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=where, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    tracked = ask("ls-files", "--error-unmatch", str(Path(__file__)))
    return {"sha": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain"))} if tracked else {"sha": None}
