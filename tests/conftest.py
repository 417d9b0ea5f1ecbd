"""Settings that every test runs under: one thread, no network, no upload, fixed seeds."""

from __future__ import annotations

import os

for _name, _value in {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline", "WANDB_SILENT": "true",
}.items():  # fmt: skip
    os.environ.setdefault(_name, _value)  # before torch and the hub's libraries read them

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
