"""Memo: answers that it took torch to find, kept in the cache folder, so that the same question needs none."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.places import CONF, cache_folder
from distill.records import Record, code_hash, modules_of, read_json, write_json

MOST = 500
"""Answers that are kept; those not asked for the longest go first."""
VARIABLES = ("PYTHONPATH", "CUDA_", "HF_", "TORCH_", "TRANSFORMERS_", "HUGGINGFACE_", "XDG_CACHE_HOME")
"""Beginnings of the names of environment variables that decide what a check or a network may find."""
CROWD = 5_000
"""Entries of a folder above which only their number counts."""


def key(question: str, *about: Any) -> str:
    """Return a name for a question; another one where the answer may be another.

    That depends on what the question is about, the code and configuration of distill, Python and what is installed, the
    working directory, the environment of the hubs, and the devices.
    """
    installed = [_time(place) for place in sys.path if place.endswith("-packages")]
    devices = sorted(str(path) for path in Path("/dev").glob("nvidia[0-9]*"))
    variables = {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}
    shipped = [state(folder) for folder in folders_of(str(CONF))]
    whole = (question, about, code_hash(), shipped, sys.version, installed, os.getcwd(), variables, devices)  # noqa: PTH109
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def recall(name: str) -> Record | None:
    """Return the answer that was kept under a name; None where there is none, or a file it rests on has changed."""
    path = _path(name)
    record = read_json(path)
    match record:
        case {"answer": dict() as answer, "files": dict() as files}:
            if any(state(file) != was for file, was in files.items()):
                return None
        case _:
            return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return answer


def keep(name: str, answer: Record, config: Any, said: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
    """Keep an answer for as long as the files stay as they are that it rests on.

    Those are what any text of the config names, the user's code around its targets, what the answer itself names, and
    ``paths``. Where the folder cannot be written nothing is kept.

    Args:
        name: of the question.
        answer: plain values.
        config: what the answer is about.
        said: sentences of the answer.
        paths: other files and folders.
    """
    texts = set(_texts(config))
    if any(re.search(r"\$\{(?!oc\.select:)[\w.]+:", text) for text in texts):  # of the environment, the time, anything
        return
    words = {word for sentence in said for word in re.findall(r"[^\s'\"`,;:()=\[\]]+", sentence)}
    files = {path: state(path) for path in {*texts, *map(str, _around(config)), *paths}}
    files |= {word: was for word in words if (was := state(word)) is not None}
    with contextlib.suppress(OSError):
        write_json(_path(name), {"answer": answer, "files": files})
        kept = sorted(_path(name).parent.glob("*.json"), key=_time)
        for path in kept[: max(0, len(kept) - MOST)]:
            path.unlink(missing_ok=True)


def folders_of(folder: str) -> list[str]:
    """Return a folder and those below it."""
    return sorted(place for place, _, _ in os.walk(folder))


@contextlib.contextmanager
def network_watched() -> Iterator[list[str]]:
    """Give a list that is filled while the context lasts: with the hosts that anything asks for."""
    asked: list[str] = []
    before = socket.getaddrinfo

    def watched(host: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(str(host))
        return before(host, *arguments, **named)

    socket.getaddrinfo = watched
    try:
        yield asked
    finally:
        socket.getaddrinfo = before


def state(text: str) -> list[Any] | None:
    """Return what tells whether a file, or a folder and what lies directly in it, has changed; None for no path."""
    path = Path(text)
    try:
        found = path.stat()
        if not path.is_dir():
            return [found.st_size, found.st_mtime_ns]
        with os.scandir(path) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        if len(inside) > CROWD:
            return [found.st_mtime_ns, len(inside)]
        stats = [(entry.name, entry.stat(follow_symlinks=False)) for entry in inside]
        return [found.st_mtime_ns, *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats)]
    except (OSError, ValueError):  # too long for a name, or not one at all
        return None


def _path(name: str) -> Path:
    return cache_folder() / "memo" / f"{name}.json"


def _time(path: str | Path) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    for below in inner:
        yield from _texts(below)


def _around(config: Any) -> list[Path]:
    """Return the sources of the user's that targets may use: what lies beside a module, or in the package around it."""
    found: set[Path] = set()
    for module in modules_of(config):
        depth = module.name.count(".") + bool(module.folders)  # folders that belong to its top-level package
        folder = Path(module.file or "").parents[max(0, depth - 1)]
        found.update(folder.rglob("*.py") if depth else folder.glob("*.py"))
    return sorted(found)
