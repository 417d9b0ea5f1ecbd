"""`distill table`: what runs and sweeps gave, or a declared table: run, status, collect, render, check."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from distill.tables.spec import Cell, Table
    from distill.tables.store import Store

DESCRIPTION = """\
A declared table: rows x columns x seeds, in FOLDER/table.yaml.

  run      every cell that has no result, side by side; what was interrupted goes on
  status   cells done, running, failed (and why), not run
  collect  results.csv and curves.csv: the union of what they hold, of the records under --out, and of other csv files
  render   README.md, LaTeX, CSV, HTML and plots from results.csv
  check    every cell composes and is right; trains nothing

  distill table experiments                                      the tables of a folder
  distill table experiments check                                an action, on each of them
  distill table experiments/digits_table run --slots 2           then status, collect, render
  distill table experiments/crd_homogeneous run --only row=kd,dkd --only column=r20 dataset.root=DIR
  distill table experiments/digits_table run --launcher submitit_slurm hydra.launcher.timeout_min=60

Other overrides are added to every cell; `distill table PATH...` without an action summarises runs and sweeps.
"""
ACTIONS = ("run", "status", "collect", "render", "check")
MISTAKE = 2


def main(argv: Sequence[str]) -> int:
    """Run ``distill table``; return 0, 1 when something is missing or failed, 2 for a mistake."""
    words = [word for word in argv if not word.startswith("-")]
    if any((Path(word) / "table.yaml").is_file() for word in words):
        return _declared(argv)
    if not words and {"-h", "--help"} & set(argv):
        _parser().print_help()
        print("\nwithout an action:\n")
    folder = Path(words[0]) if words else None
    if folder is None or not folder.is_dir():
        return _summary(argv)
    tables = sorted(path.parent for path in folder.glob("*/table.yaml"))
    if len(words) > 1 and words[1] in ACTIONS:
        if tables:
            return _declared(argv, tables)
        return _say([f"{folder}: has no table.yaml, nor a folder with one; {words[1]} needs a declared table"])
    return _list(tables) if len(argv) == 1 and tables else _summary(argv)


def _summary(argv: Sequence[str]) -> int:
    from distill.tables.summary import main as summary

    return summary(argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "distill table", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="with a table.yaml")
    parser.add_argument("action", nargs="?", help=", ".join(ACTIONS))
    parser.add_argument("more", nargs="*", help="overrides of every cell; csv files or folders to collect")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument("--only", action="append", default=[], metavar="KEY=A,B", help="row=..., column=..., seed=...")
    parser.add_argument("--seeds", type=int, metavar="N", help="the first N seeds only")
    parser.add_argument("--cover", action="store_true", help="as few cells as have every row and every column")
    parser.add_argument("--slots", help="cells at a time, or a list of CUDA_VISIBLE_DEVICES such as [0,1]")
    parser.add_argument("--launcher", metavar="NAME", help="run through a Hydra launcher: joblib, submitit_slurm, ray")
    parser.add_argument("--dry-run", action="store_true", help="say what would run and what it costs")
    parser.add_argument("--smoke", action="store_true", help="try every cell for seconds, in a folder of its own")
    parser.add_argument("--fresh", action="store_true", help="also run what is known from results.csv only")
    return parser


def _declared(argv: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """Do what is asked for with the table that is named, or with each of several; return the worst exit code."""
    from distill.cells import Forks
    from distill.config import ConfigError
    from distill.tables import spec

    parser = _parser()

    def refuse(message: str) -> NoReturn:
        raise ConfigError([f"{message}; see distill table --help"])

    parser.error = refuse  # type: ignore[method-assign]
    try:
        line = parser.parse_intermixed_args(list(argv))
        if line.action not in ACTIONS:
            raise ConfigError([_no_action(line.folder, line.action)])
    except ConfigError as error:
        return _say(error.problems)
    line.forks = Forks()
    code = 0
    for folder in folders or [Path(line.folder)]:
        try:
            code = max(code, ACT[line.action](spec.load(folder), line))
        except ConfigError as error:
            code = _say(error.problems)
        except (FileNotFoundError, ValueError) as error:
            code = _say([str(error)])
    return code


def _no_action(folder: str, word: str | None) -> str:
    choices = ", ".join(ACTIONS)
    if word is None:
        return f"{folder}: is a declared table; say what to do: {choices}"
    near = difflib.get_close_matches(word, ACTIONS, 1)
    return f"{word}: no such action; {f'did you mean {near[0]}?' if near else f'choose one of {choices}'}"


def _store(table: Table, line: argparse.Namespace, overrides: Sequence[str]) -> Store:
    from distill.config import ConfigError
    from distill.tables.loading import GIVEN
    from distill.tables.store import Store, key_of

    wrong = [text for text in overrides if "=" not in text and not text.startswith("~")]
    found = [f"{text}: is no override; write key=value" for text in wrong]
    found += [
        f"{o}: the table itself sets {key_of(o)}; use --only, --seeds, --out" for o in overrides if key_of(o) in GIVEN
    ]
    if found:
        raise ConfigError(found)
    return Store(table, line.out / "smoke" if line.smoke else line.out, tuple(overrides), line.smoke)


def _overrides(line: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the overrides of cells, and those of Hydra's own, which steer a launcher."""
    hydra = [text for text in line.more if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    return [text for text in line.more if text not in hydra], hydra


def run(table: Table, line: argparse.Namespace) -> int:
    """Run the cells that have no result; return 1 when one failed."""
    from distill.tables.checking import Configs, check, places
    from distill.tables.selection import covering, selected, slots_of
    from distill.tables.status import FINISHED, states
    from distill.tables.store import RUNNING

    overrides, hydra = _overrides(line)
    store = _store(table, line, overrides)
    cells = selected(table, line.only, line.seeds)
    cells = covering(cells) if line.cover else cells
    found = states(store, cells, line.fresh)
    todo = [cell for cell in cells if found[cell].kind not in (*FINISHED, RUNNING)]
    running = sum(state.kind == RUNNING for state in found.values())
    print(f"{table.name}: {len(cells)} cells, {len(cells) - len(todo) - running} done"
          + f", {running} running already" * bool(running) + f", {len(todo)} to run")  # fmt: skip
    if not todo:
        return 0
    with Configs(store) as configs:
        mistakes = check(configs, places(todo))
        if mistakes:
            return _say(mistakes, "nothing was trained")
        if line.dry_run:
            return _price(store, todo, configs, line)
        if not line.launcher:
            from distill.tables.run import run as start

            failed = start(store, todo, len(cells) - len(todo), slots_of(line.slots), configs, line.forks)
    if line.launcher:  # outside: Hydra composes for one at a time
        from distill.tables.run import launch

        return launch(store, todo, line.launcher, hydra)
    if failed:
        print(f"why: distill table {table.folder} status{' --smoke' * line.smoke}")
    elif not line.smoke:
        print(f"next: distill table {table.folder} collect, then render")
    return int(failed > 0)


def _price(store: Store, todo: Sequence[Cell], configs: Any, line: argparse.Namespace) -> int:
    from distill.slots import environments
    from distill.tables.cost import costs
    from distill.tables.progress import duration
    from distill.tables.selection import slots_of

    found = costs(store, todo, configs)
    for cell, cost in found.items():
        print(f"{cell}: {'?' if cost.seconds is None else duration(cost.seconds)} ({cost.how})")
    slots = len(environments(slots_of(line.slots)))
    known = [cost.seconds for cost in found.values() if cost.seconds is not None]
    unknown = f", {len(found) - len(known)} of unknown cost" if len(known) < len(found) else ""
    total = f"{duration(sum(known))} of training, about {duration(sum(known) / slots)} with {slots} cells at a time"
    print(f"\n{len(todo)} cells{unknown}: {total}; teachers and the start of each process come on top")
    return 0


def status(table: Table, line: argparse.Namespace) -> int:
    """Print how far the table is; return 1 when cells have no result."""
    from distill.tables.selection import selected
    from distill.tables.status import FINISHED, show, states

    store = _store(table, line, _overrides(line)[0])
    found = states(store, sorted(selected(table, line.only, line.seeds)))
    show(table, found)
    return int(any(state.kind not in FINISHED for state in found.values()))


def collect(table: Table, line: argparse.Namespace) -> int:
    """Write results.csv and curves.csv; return 1 when there is nothing to write."""
    from distill.tables import results
    from distill.tables.collect import collect as union

    if line.smoke:
        raise ValueError("collect --smoke: what was only tried out is no result; collect without it")
    files = [Path(word) for word in line.more if "=" not in word]
    store = _store(table, line, [word for word in line.more if "=" in word])
    found = union(store, files)
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if not found.entries:
        print(f"nothing to collect: no cell under {store.root} has a result", file=sys.stderr)
        return 1
    paths = results.write(table.folder, found.entries, found.epochs)
    print(f"{len(found.entries)} trainings, {found.new} of them new, in {' and '.join(map(str, paths))}")
    return 0


def render(table: Table, line: argparse.Namespace) -> int:
    """Write everything that is made from results.csv."""
    from distill.tables import results

    warnings: list[str] = []
    entries, epochs = results.read(table.folder, warnings)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    draw = importlib.import_module("distill.tables.render").render
    print(*draw(table, entries, epochs, table.folder), sep="\n")
    return 0


def check(table: Table, line: argparse.Namespace) -> int:
    """Say every mistake in the table's cells; return 2 when there is one."""
    from distill.tables.checking import Configs, places
    from distill.tables.checking import check as look
    from distill.tables.selection import selected

    began = time.perf_counter()
    store = _store(table, line, _overrides(line)[0])
    where = places(selected(table, line.only, 1))
    with Configs(store) as configs:
        mistakes = look(configs, where)
    if mistakes:
        return _say(mistakes)
    cells = len(selected(table, line.only, line.seeds))
    print(
        f"{table.name}: {cells} cells ({len(where)} without their seeds) are right; {time.perf_counter() - began:.1f} s"
    )
    return 0


ACT = {"run": run, "status": status, "collect": collect, "render": render, "check": check}


def _list(folders: Sequence[Path]) -> int:
    """Print the tables of a folder with the cells that are in results.csv; return 2 when one cannot be read."""
    from distill.config import ConfigError
    from distill.tables import spec
    from distill.tables.collect import current
    from distill.tables.store import Store

    wrong = []
    width = max(len(folder.name) for folder in folders)
    for folder in folders:
        try:
            table = spec.load(folder)
            done = len(current(Store(table, Path("runs"))) & set(table))
            print(f"{folder.name:<{width}}  {done:>4} of {len(list(table)):<4} {table.title}")
        except ConfigError as error:
            wrong += error.problems
    return _say(wrong) if wrong else 0


def _say(mistakes: Sequence[str], outcome: str = "") -> int:
    if len(mistakes) > 1 or outcome:
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        print(f"{count}{f', {outcome}' if outcome else ''}:", file=sys.stderr)
        mistakes = [f"- {sentence}" for sentence in mistakes]
    print(*mistakes, sep="\n", file=sys.stderr)
    return MISTAKE
