"""README.md of a table: ours beside the published numbers, what teaching gains, what it costs, where it comes from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from distill.results import PUBLISHED_RULES, RULES
from distill.tables.render import text
from distill.tables.spec import Line, Table
from distill.tables.statistics import Score, Scores

PLOTS = {
    "cost.png": "Accuracy against cost; the line joins what nothing cheaper beats (Pareto front).",
    "curves.png": "Learning curves: mean over seeds, band of one standard deviation.",
    "schedules.png": "Temperatures and weights by epoch; rows that share a trajectory share a line.",
    "per_class.png": "Gain of each class over the student without the method, hardest classes first.",
    "agreement.png": "Agreement with the teacher against accuracy.",
}


def escape(words: str) -> str:
    """Return text such that Markdown shows it as it stands, also in a table."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(words.split()))


def markdown(table: Table, scores: Scores, plots: Sequence[str]) -> str:
    """Return README.md; ``plots`` are the names of the pictures that were drawn."""
    parts = [
        f"# {escape(table.title)}",
        escape(table.paper),
        _prose(table.note),
        _state(table, scores),
        _overview(table, scores) if len(table.columns) > 1 else "",
        *(_column(table, scores, column) for column in table.columns),
        _legend(table, scores),
        _notes(table, scores),
        _sources(table),
        *(f"![{name}](plots/{name})\n\n{PLOTS[name]}" for name in plots),
        _how(table),
        _provenance(scores),
        _list("## Warnings", map(escape, scores.warnings)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _prose(words: str) -> str:
    """Keep the author's lines and links, but no HTML."""
    return words.strip().replace("<", "\\<")


def _state(table: Table, scores: Scores) -> str:
    done, wanted = text.progress(table, scores.cells)
    return (
        f"{done} of {wanted} trainings done. Test accuracy in % of the {RULES[table.rule]}. Sortable, with curves: "
        "[leaderboard.html](leaderboard.html); for a paper: [table.tex](table.tex); unrounded: [table.csv](table.csv)."
    )


def _overview(table: Table, scores: Scores) -> str:
    lines = [
        [escape(row.title), *(_ours(scores.cells[row.key, column.key]) for column in table.columns)]
        for row in table.rows
    ]
    return _grid(["", *(escape(c.title) for c in table.columns)], lines)


def _ours(score: Score) -> str:
    words = text.ours(score)
    return (f"**{words}**" if score.best else words) + f" {text.TIED}" * score.tied


def _column(table: Table, scores: Scores, column: Line) -> str:
    found = [score for score in scores.of_column(column.key) if not score.left_out]
    base = next((row.title for row in table.rows if row.key == table.baseline), "baseline")
    heads: list[tuple[str, Callable[[Score], str]]] = [
        ("", lambda s: escape(s.row.title)),
        ("ours %", _ours),
        ("published %", _published),
        ("Δ", text.delta),
        (f"over {escape(base)} [95 % CI]", lambda s: text.gain(s.gain)),
        *((f"{escape(name)}, last epoch", _metric(name)) for name in table.metrics),
        ("agreement %", lambda s: f"{a.mean:.1f}" if (a := s.mean(lambda e: e.agreement)) else ""),
        ("one training", text.time_of),
        ("CPU time", text.cpu_of),
        ("peak memory", text.memory_of),
        ("params", lambda s: text.mean_of(s.mean(lambda e: e.params))),
        ("FLOPs", lambda s: text.mean_of(s.mean(lambda e: e.flops))),
    ]
    lines = [[show(score) for _, show in heads] for score in found]
    kept = [i for i in range(len(heads)) if i < 2 or any(line[i] for line in lines)]
    grid = _grid([heads[i][0] for i in kept], [[line[i] for i in kept] for line in lines])
    return f"## {escape(column.title)}\n\n{grid}"


def _metric(name: str) -> Callable[[Score], str]:
    """Return what shows a quantity that the table asks for."""
    return lambda score: str(score.metrics.get(name, ""))


def _published(score: Score) -> str:
    return "; ".join(f"{p.value:.2f} ({escape(p.source)})" for p in score.published)


def _grid(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [heads, [":--", *["--:"] * (len(heads) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _legend(table: Table, scores: Scores) -> str:
    words = [
        "mean ± sample standard deviation (n seeds). **Bold**: best of its column",
        f"{text.TIED}: the 95 % interval of the difference to it, paired by seed, holds 0 (Student's t, no correction "
        "for many rows); it takes two seeds in common to tell, so a cell of one seed never bears this mark",
    ]
    if any(score.comparison for score in scores.cells.values()):
        words.append(f"Δ: ours minus the first published number; {text.DEPARTS}: beyond {table.tolerance:g} points")
    return "; ".join(words) + "."


def _notes(table: Table, scores: Scores) -> str:
    lines = [f"{escape(x.title)}: {escape(x.note)}" for x in (*table.rows, *table.columns) if x.note]
    for score in scores.cells.values():
        name = f"{escape(score.row.title)}, {escape(score.column.title)}"
        if score.left_out:
            lines.append(f"{name}: left out, {escape(score.left_out)}")
        if note := text.rule_note(score, table.rule):
            lines.append(f"{name}: Δ is of {note}")
    return _list("## Notes", lines)


def _sources(table: Table) -> str:
    lines = []
    for key, source in table.sources.items():
        title = escape(source.title)
        shown = f"[{title}](<{source.url}>)" if source.url.startswith(("http://", "https://")) else title
        note = f". {escape(source.note)}" if source.note else ""
        lines.append(f"{escape(key)}: {shown}, {PUBLISHED_RULES[source.rule]}{note}")
    return _list("## Sources of the published numbers", lines)


def _how(table: Table) -> str:
    name = f"experiments/{table.name}"
    commands = [
        f"distill table {name} run       # trains what is missing; run it again after an interruption",
        f"distill table {name} status    # what is done, running, failed and why",
        f"distill table {name} render    # this page, from results.csv and curves.csv",
    ]
    return "## How to run\n\n```sh\n" + "\n".join(commands) + "\n```"


def _provenance(scores: Scores) -> str:
    entries = [entry for score in scores.cells.values() for entry in score.entries]
    if not entries:
        return ""
    machines = Counter(", ".join(word for word in (e.device, e.machine) if word) for e in entries)
    lines = [f"devices: {_tally(machines)}"]
    lines.append(f"commits: {_tally(Counter(e.git or 'unknown' for e in entries))}")
    if any(e.git.endswith("*") for e in entries):
        lines[-1] += "; \\* had changes that were not committed"
    lines.append(f"PyTorch: {_tally(Counter(e.torch for e in entries))}")
    days = sorted(e.finished[:10] for e in entries if e.finished)
    if days:
        lines.append(f"finished: {days[0]}" + (f" to {days[-1]}" if days[-1] != days[0] else ""))
    if len(machines) > 1:
        lines.append("several devices: durations are not comparable across them")
    teachers = sorted({e.teacher for e in entries if e.teacher})
    if teachers:
        lines.append(f"teachers: {', '.join(escape(name) for name in teachers)}")
    return _list("## Provenance", lines)


def _tally(counts: Counter[str]) -> str:
    """Return names with how many trainings each had, most first; ties by name, for the same bytes each time."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{escape(name)} ({n})" for name, n in ordered)


def _list(head: str, lines: Iterable[str]) -> str:
    shown = "\n".join(f"- {line}" for line in lines)
    return f"{head}\n\n{shown}" if shown else ""
