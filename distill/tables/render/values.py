"""table.csv: the statistics of a table, one line for each row and column, numbers unrounded."""

from __future__ import annotations

import csv
import io
from typing import Any

from distill.tables.render.text import NOT_RUN
from distill.tables.spec import Table
from distill.tables.statistics import Score, Scores


def values(table: Table, scores: Scores) -> str:
    """Return the statistics as CSV; what is not known is an empty field."""
    text = io.StringIO()
    lines = [_line(table, score) for score in scores.cells.values()]
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(table: Table, score: Score) -> dict[str, Any]:
    accuracy, gain, compared = score.accuracy, score.gain, score.comparison
    seconds = score.mean(lambda e: e.seconds)
    status = "left out" if score.left_out else "run" if accuracy else NOT_RUN
    found: dict[str, Any] = {
        "row": score.row.key,
        "column": score.column.key,
        "arm": score.row.arm,
        "status": status,
        "rule": table.rule,
        "seeds": " ".join(str(e.seed) for e in score.entries),
        "declared": score.declared,
        "n": accuracy.n if accuracy else 0,
        "mean": accuracy and accuracy.mean,
        "std": accuracy.std if accuracy and accuracy.n > 1 else None,
        "rank": score.rank,
        "best": int(score.best),
        "tied": int(score.tied),
        "gain": gain and gain.mean,
        "gain_low": gain and gain.low,
        "gain_high": gain and gain.high,
        "gain_n": gain and gain.n,
        "published": compared and compared.published.value,
        "source": compared and compared.published.source,
        "source_rule": compared and compared.source.rule,
        "compared": compared.ours.mean if compared and compared.ours else None,
        "delta": compared and compared.delta,
        "departs": int(compared.departs) if compared else None,
        "seconds": seconds and seconds.mean,
        "seconds_std": seconds.std if seconds and seconds.n > 1 else None,
    }
    for name in ("params", "flops", "cpu_seconds", "peak_memory", "agreement", "nll", "ece"):
        mean = score.mean(lambda e, name=name: getattr(e, name))  # type: ignore[misc]
        found[name] = mean and mean.mean
    for name in table.metrics:
        last = score.metrics.get(name)
        found |= {name: last and last.mean, f"{name} std": last.std if last and last.n > 1 else None}
    return found
