"""`distill table`: mean ± std by setting, over sweeps, jobs or runs, with the best and the command that repeats it."""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from distill.records import Record
from distill.results import RULES, Spread, quantity, rule_of, spread
from distill.tables import front
from distill.tables.found import ALONE, DISTILLED, Found, Row, collect, key_of
from distill.tables.importance import importances, report

HEADS = ("setting", "distilled %", "alone %", "gain", "teacher %", "val %", "seeds", "params", "train s")
NOTHING = "–"


class Line(NamedTuple):
    """What the table says of one setting; accuracies in percent, seconds for one training."""

    row: Row
    distilled: Spread | None
    alone: Spread | None
    gain: Spread | None
    teacher: float | None
    val: Spread | None
    seeds: list[int]
    params: int
    seconds: float

    @property
    def main(self) -> Spread:
        """Accuracy of the arm that the setting is about."""
        best = self.distilled or self.alone
        assert best is not None
        return best


def line_of(row: Row, rule: str) -> Line:
    """Return what the records of a setting come to under a rule of ``results.RULES``."""
    arms = {arm: {seed: _accuracy(r, rule) for seed, r in found.items()} for arm, found in row.arms.items()}
    both = sorted(arms.get(DISTILLED, {}).keys() & arms.get(ALONE, {}).keys())
    gains = [arms[DISTILLED][seed] - arms[ALONE][seed] for seed in both]
    records = list(row.main.values())
    vals = [r["accuracy"]["val"] for r in records if r["accuracy"].get("val") is not None]
    teachers = [_accuracy(r, rule) for r in row.teachers.values() if r["accuracy"].get(rule) is not None]
    return Line(
        row,
        distilled=spread(list(arms[DISTILLED].values())) if DISTILLED in arms else None,
        alone=spread(list(arms[ALONE].values())) if ALONE in arms else None,
        gain=spread(gains) if gains else None,
        teacher=max(teachers, default=None),
        val=spread(vals) if len(vals) == len(records) else None,
        seeds=sorted(row.main),
        params=int(records[0]["params"]),
        seconds=spread([r["seconds"] for r in records]).mean,
    )


def _accuracy(record: Record, rule: str) -> float:
    return float(record["accuracy"][rule])


def lines_of(found: Found, rule: str | None) -> tuple[list[Line], str]:
    """Return the lines of all settings, best first, and the rule they follow.

    With the rule ``val_chosen`` the order is that of validation accuracy: an order by test accuracy would choose on
    the test set what is then reported on it.

    Raises:
        ValueError: when ``rule`` needs a validation split that some run did not have.
    """
    records = [r for row in found.rows.values() for by_seed in row.arms.values() for r in by_seed.values()]
    if rule == "val_chosen" and rule_of(records) != rule:
        raise ValueError("--rule val_chosen: some run held out no validation split; use --rule last or best_on_test")
    rule = rule or rule_of(records)
    lines = [line_of(row, rule) for row in found.rows.values()]
    return sorted(lines, key=lambda x: _judged(x, rule), reverse=True), rule


def _judged(line: Line, rule: str) -> float:
    """Return the accuracy that settings are compared by."""
    return line.val.mean if rule == "val_chosen" and line.val else line.main.mean


def common(lines: Sequence[Line]) -> set[str]:
    """Return the overrides that all of several settings share."""
    return set.intersection(*(set(x.row.setting) for x in lines)) if len(lines) > 1 else set()


def cells_of(line: Line, shared: set[str]) -> list[str]:
    """Return the texts of a line, under ``HEADS``."""
    own = [line.row.name, *(o for o in line.row.typed if o not in shared)]
    return [
        " ".join(word for word in own if word) or ("(as all)" if shared else "(defaults)"),
        str(line.distilled or NOTHING),
        str(line.alone or NOTHING),
        f"{line.gain.mean:+.2f}" + (f" ± {line.gain.std:.2f}" if line.gain.n > 1 else "") if line.gain else NOTHING,
        f"{line.teacher:.2f}" if line.teacher is not None else NOTHING,
        str(line.val or NOTHING),
        str(len(line.seeds)),
        quantity(line.params),
        f"{line.seconds:.1f}",
    ]


def command(line: Line) -> str:
    """Return the command that runs a setting again with the same seeds."""
    first, n = line.seeds[0], len(line.seeds)
    if line.seeds == list(range(first, first + n)):
        many, seeds = "", [f"seed={first}", f"seeds={n}"]
    else:
        many, seeds = " -m", [f"seed={','.join(map(str, line.seeds))}"]
    return f"distill train{many} {shlex.join([*line.row.typed, *seeds])}"


def write_csv(path: Path, lines: Sequence[Line], rule: str) -> None:
    """Write one line for each setting, numbers unrounded."""
    spreads = ("distilled", "alone", "gain", "val")
    heads = ["setting", "rule", "seeds", *(f"{s}_{part}" for s in spreads for part in ("mean", "std", "n"))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*heads, "teacher", "params", "seconds", "command"])
        for line in lines:
            numbers = [value for s in spreads for value in (getattr(line, s) or ("", "", ""))]
            seeds = " ".join(map(str, line.seeds))
            start = [" ".join([line.row.name, *line.row.setting]).strip(), rule, seeds, *numbers]
            teacher = "" if line.teacher is None else line.teacher
            writer.writerow([*start, teacher, line.params, line.seconds, command(line)])


def write_runs(path: Path, found: Found) -> None:
    """Write one line for each training, teachers first; one that several settings share stands under the first."""
    trainings: dict[str, tuple[str, str, Record]] = {}
    for row in found.rows.values():
        setting = " ".join([row.name, *row.setting]).strip()
        arms: dict[str, Mapping[Any, Record]] = {"teacher": row.teachers, **row.arms}
        for arm, records in sorted(arms.items(), key=lambda item: item[0] != "teacher"):
            for record in records.values():
                trainings.setdefault(record["fingerprint"], (arm, "" if arm == "teacher" else setting, record))
    heads = ["fingerprint", "label", "arm", "setting", "seed", "last", "best_on_test", "val_chosen", "agreement"]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*heads, "params", "flops", "epochs", "steps", "seconds", "device", "git", "code", "torch"])
        for arm, setting, r in sorted(trainings.values(), key=lambda x: x[0] != "teacher"):
            writer.writerow(
                [
                    r["fingerprint"], r["label"], arm, setting, r["config"]["seed"],
                    *(r["accuracy"][rule] for rule in ("last", "best_on_test", "val_chosen")),
                    r["test"].get("agreement", ""), r["params"], r["flops"], r["epochs"], r["steps"], r["seconds"],
                    r["device"], (r["git"]["sha"] or "")[:10] + "*" * bool(r["git"].get("dirty")), r["code"],
                    r["versions"]["torch"],
                ]
            )  # fmt: skip


def show(lines: Sequence[Line], rule: str, markdown: bool) -> None:
    """Print the table, what all settings share, and the best of them."""
    shared = common(lines)
    texts = [cells_of(line, shared) for line in lines]
    kept = [i for i in range(len(HEADS)) if any(row[i] != NOTHING for row in texts)]
    heads, rows = [HEADS[i] for i in kept], [[row[i] for i in kept] for row in texts]
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False)
    if markdown:
        dashes = [":--", *["--:"] * (len(heads) - 1)]
        for row in (heads, dashes, *rows):
            print(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |")
    else:
        table = Table(show_edge=False, header_style="bold")
        for i, head in enumerate(heads):
            table.add_column(head, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print()
    if shared:
        console.print(f"all: {' '.join(o for o in lines[0].row.typed if o in shared)}", soft_wrap=True)
    order = "validation accuracy" if rule == "val_chosen" else "test accuracy"
    console.print(f"test accuracy of the {RULES[rule]}, mean ± std over seeds; best {order} first")
    console.print(f"best: {texts[0][0]}: {lines[0].main} (n={lines[0].main.n})", soft_wrap=True)
    console.print(f"again: {command(lines[0])}", soft_wrap=True)


def show_sweep(lines: Sequence[Line], found: Found, paths: Sequence[Path], rule: str) -> None:
    """Print what several settings say together: Pareto fronts of searches, the importance of each override, pruning."""
    if sum(1 for path in paths for _ in path.rglob("multirun.yaml")) > 1:
        print("\nseveral sweeps: give the folder of one for the importance of what it varied")
        return
    shared = common(lines)
    names = [cells_of(line, shared)[0] for line in lines]
    told: list[str] = []
    for search in front.searches(paths):
        told += front.report(search, names, [list(line.row.main.values()) for line in lines])
    values = [_judged(line, rule) for line in lines]
    settings = [{key_of(o): o.partition("=")[2] for o in line.row.setting} for line in lines]
    told += report(importances(settings, values), len(found.pruned))
    if found.pruned:
        told += [f"{len(found.pruned)} pruned by the search:", *(f"  {line}" for line in found.pruned)]
    if told:
        print("", *told, sep="\n")


def main(argv: Sequence[str]) -> int:
    """Run ``distill table``; return 0, 1 when there is nothing to show, 2 for a mistake in the arguments."""
    parser = argparse.ArgumentParser("distill table", description="mean ± std by setting, seeds merged, best first")
    parser.add_argument("path", nargs="+", type=Path, help="a sweep, job or run folder, or all of runs")
    parser.add_argument("--rule", choices=list(RULES), help="which epoch counts (default: val_chosen, else last)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the numbers, unrounded")
    parser.add_argument("--runs", type=Path, metavar="FILE", help="write one line for each training")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(argv)
    try:
        found = collect(options.path)
        lines, rule = lines_of(found, options.rule) if found.rows else ([], "last")
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if lines:
        show(lines, rule, options.markdown)
        show_sweep(lines, found, options.path, rule)
        if options.csv:
            write_csv(options.csv, lines, rule)
        if options.runs:
            write_runs(options.runs, found)
    if found.missing:
        print(f"\n{len(found.missing)} without a result:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in found.missing), file=sys.stderr)
    if found.pruned and not lines:
        print(f"{len(found.pruned)} pruned by the search, and none was finished:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in found.pruned), file=sys.stderr)
    elif not lines and not found.missing:
        print(f"nothing to show: no {' or '.join(map(str, options.path))} holds a result", file=sys.stderr)
    return 0 if lines else 1
