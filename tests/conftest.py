"""Settings that every test runs under: one thread, no network, no upload, fixed seeds, an empty cache."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

for _name, _value in {
    "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline", "WANDB_SILENT": "true",
}.items():  # fmt: skip
    os.environ.setdefault(_name, _value)  # before torch and the hub's libraries read them

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    if torch.cuda.is_available():
        torch.manual_seed(0)
    else:  # without the others, for whom torch keeps a call and its stack: a millisecond a test
        torch.default_generator.manual_seed(0)


@pytest.fixture(scope="session")
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("caches")
    return (base / str(number) for number in itertools.count())  # pytest would look at all of them to number the next


@pytest.fixture(autouse=True)
def _nothing_remembered(_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(next(_caches)))


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return this test's folder, from which Python imports; what was imported from it is forgotten at the end."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        held = vars(module)  # torch.classes answers for any attribute
        places = [held.get("__file__"), *held.get("__path__", ())]
        if any(place and Path(place).is_relative_to(tmp_path) for place in places):
            del sys.modules[name]
