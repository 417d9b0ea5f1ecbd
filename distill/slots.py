"""Slots: the places that cells of a sweep run in, one at a time each, with the GPUs and CPU cores dealt out."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any


def environments(slots: Any) -> list[dict[str, str]]:
    """Return the environment variables of each slot.

    A number of slots shares out the visible GPUs: with more GPUs than slots each gets several, with fewer, slots share.

    Args:
        slots: number of cells at a time; or one ``CUDA_VISIBLE_DEVICES`` value for each; None for one cell per GPU.

    Raises:
        ValueError: when ``slots`` is neither.
    """
    gpus = visible_gpus()
    if slots is None:
        slots = len(gpus) or 1
    devices: list[str | None]
    if isinstance(slots, int) and not isinstance(slots, bool) and slots > 0:
        devices = [",".join(gpus[i::slots] or [gpus[i % len(gpus)]]) if gpus else None for i in range(slots)]
    elif isinstance(slots, Sequence) and not isinstance(slots, str) and len(slots):
        devices = [str(value) for value in slots]
    else:
        raise ValueError(f"hydra.launcher.slots={slots}: give a number of cells at a time, or a list such as [0,1]")
    common = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if gpus and "CUDA_VISIBLE_DEVICES" not in os.environ else {}
    if len(devices) > 1 and "OMP_NUM_THREADS" not in os.environ:
        common["OMP_NUM_THREADS"] = str(max(1, cores() // len(devices)))
    return [common | ({} if device is None else {"CUDA_VISIBLE_DEVICES": device}) for device in devices]


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, without importing torch."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    ask = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []
