"""Peak memory of a training: what the device allocated, or what the process held where that is the CPU."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

import torch

MIB = 2**20


def forget(device: torch.device) -> None:
    """Start to look for the peak anew, so that what this process did before does not count."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # Linux alone has it
        Path("/proc/self/clear_refs").write_text("5")


def resident() -> float:
    """Return the most memory that this process has held, in MiB.

    From the kernel's own count where there is one, for what ``getrusage`` says of a new process starts at what the
    process that started it held. Of a cell that was forked (see :mod:`distill.forkserver`) the pages of libraries that
    it never touched are not among it, some hundred MiB.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB  # in bytes where there is no /proc


def peak(device: torch.device) -> float:
    """Return the most memory, in MiB, since :func:`forget`: of tensors on a GPU, else of the whole process."""
    return torch.cuda.max_memory_allocated(device) / MIB if device.type == "cuda" else resident()
