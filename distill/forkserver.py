"""Fork server: `python -m distill.forkserver` imports once what a training needs and forks a child for each cell.

Importing torch and Lightning takes several times as long as a small training. A child is what an ordinary process would
be: a session of its own, no input, its output in the log of the cell, its own environment; it runs the same command.
Nothing that a fork would break is done before one: no CUDA is asked for, no thread started, no tensor computed. The
threads that OpenBLAS and jemalloc have from their import on stop for a fork by themselves.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

POLL = 0.05
"""Seconds between two looks of the server at its children."""
HEAD = struct.Struct("!I")
"""Number of bytes of a request, which come after it."""


def main(arguments: Sequence[str]) -> int:
    """Serve the client at a file descriptor; in a child, run the command that it was forked for."""
    connection = socket.socket(fileno=int(arguments[0]))
    _prepare(arguments[1:])
    words = _serve(connection)
    if words is not None:
        sys.argv = [str(Path(__file__).with_name("__main__.py")), *words]
        _finish(_run(words))
    return 0


def _run(words: Sequence[str]) -> int:
    from distill.cli import main as run

    try:
        return run(words)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _finish(code: int) -> NoReturn:
    """End this child as an interpreter ends, but without a second spent on freeing what it shares with its server."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def _prepare(modules: Sequence[str]) -> None:
    for name in modules:
        with suppress(ImportError):  # the child that needs it says so
            importlib.import_module(name)
    if "hydra" in sys.modules:
        from distill.commands.composing import Composer

        with Composer() as composer:  # Hydra finds its plugins and learns its grammar
            composer.full(())
    gc.collect()
    gc.freeze()  # a collection in a child would write to, and so copy, every page that it shares


def _serve(connection: socket.socket) -> list[str] | None:
    """Fork for each request; return what a child is to run, and None in the server once its client is gone."""
    children: dict[int, int] = {}
    count = 0
    try:
        while True:
            for pid, number in list(children.items()):
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    del children[pid]
                    _say(connection, {"number": number, "code": os.waitstatus_to_exitcode(status)})
            if not select.select([connection], [], [], POLL if children else None)[0]:
                continue
            head, logs, *_ = socket.recv_fds(connection, HEAD.size, 1)
            if not head:
                return None
            (size,) = HEAD.unpack(head)
            body = json.loads(connection.recv(size, socket.MSG_WAITALL))
            pid = os.fork()
            if not pid:
                connection.close()
                _settle(logs[0], body["environment"])
                return list(body["words"])
            os.close(logs[0])
            children[pid] = count
            count += 1
            _say(connection, {"pid": pid})
    except ConnectionError:
        return None


def _say(connection: socket.socket, what: Mapping[str, int]) -> None:
    connection.sendall(json.dumps(what).encode() + b"\n")


def _settle(log: int, environment: Mapping[str, str]) -> None:
    """Make this child what an ordinary process would be from its start."""
    os.setsid()  # Ctrl-C does not reach it, and its ranks and workers can be ended with it
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.update(environment)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
