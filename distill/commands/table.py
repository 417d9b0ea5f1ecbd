"""`distill table`: what runs and sweeps gave, or a declared table: run, status, collect, render, check."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run ``distill table``; return 0, 1 when there is nothing to show or a cell failed, 2 for a mistake."""
    from distill.tables.summary import main as summary

    return summary(argv)
