"""Memory that a step frees stays with the process; where the C library cannot be told, nothing happens."""

import ctypes
import platform
import subprocess
import sys

import pytest

from distill import heap

CODE = """
import resource, sys, torch
from distill.heap import keep_freed
assert sys.argv[1] == "plain" or keep_freed()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(4 << 20)
before = faults()
for _ in range(10):
    torch.ones(4 << 20)
print(faults() - before)
"""
PAGES = (16 << 20) // 4096
"""Small pages of a tensor of 16 MiB."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_keep_freed__a_tensor_takes_the_pages_of_the_one_before() -> None:
    found = {}
    for way in ("plain", "kept"):
        done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, check=True)
        found[way] = int(done.stdout)
    assert found["kept"] < PAGES / 2
    assert found["kept"] < found["plain"] or found["plain"] < PAGES  # large pages always, as some systems have them


def test_keep_freed__leaves_other_systems_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = heap.keep_freed.__wrapped__
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ask() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())  # a C library that has no mallopt
    assert ask() is False
