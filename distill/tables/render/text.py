"""Numbers of a table in words that README, LaTeX and leaderboard share."""

from __future__ import annotations

from distill.results import RULES, Spread, quantity
from distill.tables.spec import Cell, Table
from distill.tables.statistics import Paired, Score

NOT_RUN = "not run"
NOTHING = "–"
DEPARTS, TIED = "†", "≈"


def signed(value: float) -> str:
    """Return points with their sign, such as ``+0.42``; the minus is the typographic one."""
    return f"{value:+.2f}".replace("-", "−")


def ours(score: Score) -> str:
    """Return ``mean ± std (n)``, with the declared number of seeds where fewer were trained, or that it was not run."""
    if score.left_out:
        return NOTHING
    if score.accuracy is None:
        return NOT_RUN
    n = f"{score.accuracy.n} of {score.declared}" if score.short else f"{score.accuracy.n}"
    return f"{score.accuracy} ({n})"


def delta(score: Score) -> str:
    """Return ours minus published with its mark, and by which rule where that is not the one of the table."""
    compared = score.comparison
    if compared is None or score.accuracy is None:
        return ""
    if compared.ours is None or compared.delta is None:
        return f"no {RULES[compared.rule]} of ours"
    return signed(compared.delta) + DEPARTS * compared.departs


def rule_note(score: Score, rule: str) -> str:
    """Return what ``delta`` compares where the source selects epochs by another rule than the table; else ""."""
    compared = score.comparison
    if compared is None or compared.ours is None or compared.rule == rule:
        return ""
    return f"ours by the {RULES[compared.rule]}, as its source: {compared.ours} ({compared.ours.n})"


def gain(value: Paired | None) -> str:
    """Return a paired difference and its 95 % interval, or that one seed gives none."""
    if value is None:
        return ""
    if value.low is None or value.high is None:
        return f"{signed(value.mean)} (one seed)"
    return f"{signed(value.mean)} [{signed(value.low)}, {signed(value.high)}]"


def duration(seconds: float) -> str:
    """Return a duration with the unit that suits it: s, min or h."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def mean_of(value: Spread | None, unit: str = "") -> str:
    """Return the mean of a count with a thousands prefix, or nothing."""
    return "" if value is None else quantity(value.mean) + unit


def time_of(score: Score) -> str:
    """Return the mean duration of one training of a cell, or nothing."""
    found = score.mean(lambda entry: entry.seconds)
    return "" if found is None else duration(found.mean)


def cpu_of(score: Score) -> str:
    """Return the mean time that the CPU's cores computed for one training of a cell, or nothing."""
    found = score.mean(lambda entry: entry.cpu_seconds)
    return "" if found is None else duration(found.mean)


def memory_of(score: Score) -> str:
    """Return the mean peak of memory of one training of a cell, or nothing."""
    found = score.mean(lambda entry: entry.peak_memory)
    return "" if found is None else f"{found.mean:.0f} MiB"


def progress(table: Table, scores: dict[tuple[str, str], Score]) -> tuple[int, int]:
    """Return how many of the declared trainings are done, and how many are declared."""
    wanted: list[Cell] = list(table)
    return sum(len(s.entries) for s in scores.values() if not s.teacher), len(wanted)
