"""leaderboard.html: one file that works from disk, its data as JSON inside, its script and style held by hashes."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import shlex
from importlib.resources import files
from typing import Any

from distill.plots import Curve
from distill.results import PUBLISHED_RULES, RULES, Spread
from distill.tables.render import text
from distill.tables.render.trajectories import ACCURACY, SCHEDULE, Trajectories
from distill.tables.results import Entry
from distill.tables.spec import Cell, Published, Table
from distill.tables.statistics import Score, Scores

SCRIPTS = ("chart.js", "leaderboard.js")
COSTS = ("params", "flops", "agreement", "cpu_seconds", "peak_memory")
"""What of a training is shown by its mean, beside its accuracy and duration."""
KINDS = {"distilled": "distilled", "alone": "student alone", "teacher": "teacher"}


def leaderboard(table: Table, scores: Scores, curves: Trajectories) -> str:
    """Return the page; nothing in the table can become markup, and no script but our own is run."""
    here = files("distill.tables.render") / "page"
    script = "\n".join((here / name).read_text("utf-8") for name in SCRIPTS)
    style = (here / "leaderboard.css").read_text("utf-8")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; base-uri 'none'"
    data = json.dumps(page_data(table, scores, curves), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    parts = {
        "policy": html.escape(policy),
        "title": html.escape(table.title),
        "style": style,
        # a "<" can end the element or open a comment in it; JSON reads the escape as the same letter
        "data": data.replace("<", "\\u003c"),
        "script": script,
    }
    page = (here / "leaderboard.html").read_text("utf-8")
    pieces = page.split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def page_data(table: Table, scores: Scores, curves: Trajectories) -> dict[str, Any]:
    """Return what the page shows, as plain values; NaN and infinity become null."""
    done, wanted = text.progress(table, scores.cells)
    base = next((row.title for row in table.rows if row.key == table.baseline), "the baseline")
    shown = [score for score in scores.cells.values() if not score.left_out]
    page = {
        "title": table.title,
        "paper": table.paper,
        "note": table.note,
        "rule": RULES[table.rule],
        "tolerance": table.tolerance,
        "seeds": len(table.seeds),
        "baseline": base,
        "baselineRow": table.baseline,
        "done": done,
        "wanted": wanted,
        "columns": [{"key": c.key, "title": c.title, "note": c.note} for c in table.columns],
        "kinds": {arm: name for arm, name in KINDS.items() if any(row.arm == arm for row in table.rows)},
        "cells": [_cell(table, score, curves, i) for i, score in enumerate(shown)],
        "leftOut": [
            f"{s.row.title}, {s.column.title}: {s.left_out}" for s in scores.cells.values() if s.left_out
        ],
        "sources": [
            {"key": key, "title": s.title, "url": _link(s.url), "rule": PUBLISHED_RULES[s.rule], "note": s.note}
            for key, s in table.sources.items()
        ],
        "provenance": _provenance([e for s in shown for e in s.entries]),
        "warnings": scores.warnings,
        "command": f"distill table experiments/{table.name} run",
    }  # fmt: skip
    found = _finite(page)
    assert isinstance(found, dict)
    return found


def _cell(table: Table, score: Score, curves: Trajectories, order: int) -> dict[str, Any]:
    accuracy, gain, compared = score.accuracy, score.gain, score.comparison
    seconds = score.mean(lambda e: e.seconds)
    costs = {name: score.mean(lambda e, name=name: getattr(e, name)) for name in COSTS}  # type: ignore[misc]
    return {
        "id": f"{score.row.key}/{score.column.key}",
        "order": order,
        "row": score.row.key,
        "title": score.row.title,
        "note": score.row.note,
        "kind": score.row.arm,
        "column": score.column.key,
        "columnTitle": score.column.title,
        "text": text.ours(score),
        "short": score.short,
        "accuracy": accuracy and accuracy.mean,
        "std": accuracy and accuracy.std,
        "rank": score.rank,
        "best": score.best,
        "tied": score.tied,
        "published": compared and compared.published.value,
        "publishedAll": [_published(table, p) for p in score.published],
        "delta": compared and compared.delta,
        "deltaText": text.delta(score),
        "departs": bool(compared and compared.departs),
        "ruleNote": text.rule_note(score, table.rule),
        "gain": gain and gain.mean,
        "gainText": text.gain(gain),
        "seconds": seconds and seconds.mean,
        "secondsText": text.time_of(score),
        "cpuText": text.cpu_of(score),
        "memoryText": text.memory_of(score),
        **{name: value and value.mean for name, value in costs.items()},
        "paramsText": text.mean_of(costs["params"]),
        "flopsText": text.mean_of(costs["flops"]),
        "agreementText": _one(costs["agreement"]),
        "runs": [_run(entry) for entry in score.entries],
        "commands": _commands(table, score),
        "curve": _curve(curves.of(score, ACCURACY)),
        "schedules": {
            name.removeprefix(SCHEDULE): _curve(curves.of(score, name))
            for name in curves.keys(score)
            if name.startswith(SCHEDULE)
        },
    }


def _one(value: Spread | None) -> str:
    return f"{value.mean:.1f}" if value else ""


def _published(table: Table, number: Published) -> dict[str, str]:
    source = table.sources[number.source]
    return {"value": f"{number.value:.2f}", "title": source.title, "rule": PUBLISHED_RULES[source.rule]}


def _run(entry: Entry) -> dict[str, Any]:
    accuracies = {rule: _two(entry.accuracy(rule)) for rule in RULES}
    rest = {
        "agreement": "" if entry.agreement is None else f"{entry.agreement:.1f}",
        "seconds": text.duration(entry.seconds),
        "label": entry.label,
        "device": entry.device,
        "git": entry.git[:7] + "*" * entry.git.endswith("*"),
        "finished": entry.finished,
    }
    return {"seed": entry.seed, **accuracies, **rest}


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _commands(table: Table, score: Score) -> list[str]:
    """Return the commands that train a cell again: as they were run, or as they would be."""
    if score.entries:
        return [f"distill train {entry.overrides}" for entry in score.entries]
    if score.teacher:
        return []
    cells = [Cell(score.row.key, score.column.key, seed) for seed in table.seeds]
    return [f"distill train {shlex.join(table.overrides_of(cell))}" for cell in cells]


def _curve(found: Curve | None) -> dict[str, list[float]] | None:
    if found is None:
        return None
    return {
        "epochs": [float(epoch) for epoch in found.epochs],
        "mean": [round(value, 3) for value in found.mean],
        "std": [round(value, 3) for value in found.std],
    }


def _link(url: str) -> str:
    """Keep only addresses that open a page; ``javascript:`` is one that does not."""
    return url if url.startswith(("https://", "http://")) else ""


def _provenance(entries: list[Entry]) -> dict[str, list[str]]:
    return {
        "devices": sorted({", ".join(word for word in (e.device, e.machine) if word) for e in entries}),
        "commits": sorted({e.git or "unknown" for e in entries}),
        "PyTorch": sorted({e.torch for e in entries}),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
