"""Memory that a step frees stays with the process; where the C library cannot be told, nothing happens."""

import ctypes
import platform
import subprocess
import sys

import pytest

from distill import heap

CODE = """
import resource, torch
from distill.heap import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(4 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
assert keep_freed()
torch.ones(4 << 20)
print(plain, faults())
"""
PAGES = (16 << 20) // 4096
"""Small pages of a tensor of 16 MiB."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_keep_freed__a_tensor_takes_the_pages_of_the_one_before() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    plain, kept = map(int, done.stdout.split())
    assert kept < PAGES / 2
    assert kept < plain or plain < PAGES  # large pages always, as some systems have them


def test_keep_freed__leaves_other_systems_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = heap.keep_freed.__wrapped__
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ask() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())  # a C library that has no mallopt
    assert ask() is False
