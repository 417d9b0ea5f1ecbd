"""Slots of a sweep: GPUs and cores are dealt out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distill import slots as places
from distill.slots import environments


@pytest.mark.parametrize(
    "slots, gpus, expected",
    [
        (None, [], [None]),
        (None, ["0", "1"], ["0", "1"]),
        (2, [], [None, None]),
        (2, ["0"], ["0", "0"]),
        (3, ["0", "1"], ["0", "1", "0"]),
        (2, ["0", "1", "2", "3"], ["0,2", "1,3"]),
        (["0,1", "2,3"], ["0", "1", "2", "3"], ["0,1", "2,3"]),
        ([4], [], ["4"]),
    ],
)
def test_environments__deals_out_gpus(
    slots: object, gpus: list[str], expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "visible_gpus", lambda: gpus)
    assert [found.get("CUDA_VISIBLE_DEVICES") for found in environments(slots)] == expected


def test_environments__shares_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "visible_gpus", list)
    monkeypatch.setattr(places, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [found["OMP_NUM_THREADS"] for found in environments(3)] == ["2"] * 3
    assert environments(1) == [{}]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environments(3) == [{}] * 3


@pytest.mark.parametrize("slots", [0, -1, True, "0,1", [], 1.5])
def test_environments__refuses_other_slots(slots: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "visible_gpus", list)
    with pytest.raises(ValueError, match=r"hydra.launcher.slots=.*give a number of cells"):
        environments(slots)


def test_visible_gpus__reads_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")
    assert places.visible_gpus() == ["3", "GPU-ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert places.visible_gpus() == []


def test_visible_gpus__asks_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert places.visible_gpus() == ["0", "1"]
    assert [found["CUDA_DEVICE_ORDER"] for found in environments(None)] == ["PCI_BUS_ID"] * 2
