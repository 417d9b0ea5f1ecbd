"""`distill check`: says every mistake in a config, or what it would train; trains nothing."""

from __future__ import annotations

from collections.abc import Sequence

from distill.commands import train


def main(arguments: Sequence[str]) -> int:
    """Check what ``distill train`` with these arguments would do; return 0 when nothing speaks against it, else 2."""
    return train.main([*arguments, "check=only"])
