"""Cells forked from one process that has imported what a training needs: the side of a sweep that asks for them."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from distill.forkserver import HEAD, POLL
from distill.records import targets

if TYPE_CHECKING:
    from distill.config import Config

EVERY = ("distill.commands.train", "distill.training", "distill.comparison", "distill.plots", "distill.dryrun",
         "distill.verdict", "matplotlib.backends.backend_agg", "matplotlib.figure", "PIL.PngImagePlugin",
         "sklearn.datasets", "torch.utils.serialization")  # fmt: skip
"""Modules that trainings import, some of them not before they need them."""
LATE = {"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "WANDB_RUN_GROUP"}
"""Environment variables that nothing reads while it is imported, so that a child may have its own."""
LOST = 255
"""What stands for the exit code of a child whose server died before it."""


def modules_of(config: Config) -> tuple[str, ...] | None:
    """Return the modules of distill that a training imports; None where it takes more than one process, or cannot fork.

    Code of the user's own is not among them: what it does while it is imported may not be fit for a fork.
    """
    trainer = config["trainer"]
    several = trainer.get("devices") not in (1, "1") or trainer.get("num_nodes", 1) > 1
    if several or sys.platform != "linux":  # elsewhere what a fork leaves behind is not safe to use
        return None
    names = {target.rpartition(".")[0] for target in targets(config)}
    return tuple(sorted(name for name in names if name.startswith("distill.")))


class Forked:
    """A child of a fork server, with the methods of :class:`subprocess.Popen` that a sweep needs.

    Attributes:
        pid: process id, and id of its group.
        returncode: as of ``Popen``, negative for a signal; None while it runs.
    """

    def __init__(self, server: ForkServer, number: int, pid: int) -> None:
        self.server, self.number, self.pid = server, number, pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while the child runs."""
        if self.returncode is None:
            self.returncode = self.server.code(self)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once there is one.

        Raises:
            subprocess.TimeoutExpired: after ``timeout`` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(f"cell {self.number}", timeout or 0.0)
            time.sleep(POLL)
        return code

    def terminate(self) -> None:
        """Ask the child to end."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)


class ForkServer:
    """A fork server and the connection to it; ended with this object, while its children live on.

    Args:
        modules: to import, next to what every training needs.
        environment: of the server; its children get it too.
    """

    def __init__(self, modules: Sequence[str], environment: Mapping[str, str]) -> None:
        self.environment, self.folder = dict(environment), Path.cwd()
        self._connection, theirs = socket.socketpair()
        with theirs:
            # it says nothing: where it cannot import, neither can an ordinary process, whose log tells why
            process = subprocess.Popen(
                [sys.executable, "-m", "distill.forkserver", str(theirs.fileno()), *EVERY, *modules],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        self.close = weakref.finalize(self, _end, self._connection, process)
        self.pid = process.pid
        self._codes: dict[int, int] = {}
        self._count, self._hung_up = 0, False
        self._unread = b""
        self._one = threading.Lock()  # at a time: a process may be looked at from any thread

    @property
    def lost(self) -> bool:
        """Whether the server is gone; its children are not."""
        return self._hung_up or not self.close.alive

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a child can be given this environment: nothing that was read at import is another."""
        keys = environment.keys() | self.environment.keys()
        other = {key for key in keys if environment.get(key) != self.environment.get(key)}
        return not self.lost and not other - LATE and other <= environment.keys() and Path.cwd() == self.folder

    def start(self, words: Sequence[str], environment: Mapping[str, str], log: int) -> Forked:
        """Run ``distill`` with arguments in a child; waits until the server has imported what it has to.

        Args:
            words: arguments of ``distill``.
            environment: of the child, see :meth:`takes`.
            log: file descriptor of what it prints; the child holds it, and any lock on it, until it ends.

        Raises:
            ConnectionError: when there is no server any more.
        """
        own = {key: value for key, value in environment.items() if self.environment.get(key) != value}
        body = json.dumps({"words": list(words), "environment": own}).encode()
        with self._one:
            try:
                socket.send_fds(self._connection, [HEAD.pack(len(body))], [log])
                self._connection.sendall(body)
            except OSError as error:
                self._hung_up = True
                raise ConnectionError("the fork server has ended") from error
            try:
                while "pid" not in (said := self._read(None) or {}):
                    if self.lost:
                        raise ConnectionError("the fork server has ended")
            except BaseException:  # interrupted: it shall not fork later for one who does not wait any more
                self.close()
                raise
            self._count += 1
            return Forked(self, self._count - 1, said["pid"])

    def code(self, child: Forked) -> int | None:
        """Return the exit code of a child, None while it runs."""
        with self._one:
            while self._read(0.0) is not None:
                pass
        if child.number in self._codes:
            return self._codes[child.number]
        return LOST if self.lost and not _lives(child.pid) else None

    def _read(self, timeout: float | None) -> dict[str, int] | None:
        """Return the next message, after noting an exit code in it; None where there is none in time, or ever."""
        while b"\n" not in self._unread:
            if self.lost or not select.select([self._connection], [], [], timeout)[0]:
                return None
            try:
                more = self._connection.recv(4096)
            except ConnectionError:
                more = b""
            self._hung_up = not more
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, int] = json.loads(line)
        if "code" in said:
            self._codes[said["number"]] = said["code"]
        return said


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")  # in a container nobody may take note of its end


def _end(connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
    connection.close()
    process.kill()
    process.wait()
