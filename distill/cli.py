"""The command `distill`: finds the subcommand, and imports nothing that it does not need."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

COMMANDS = {
    "train": ("distill.commands.train", "train teacher, student alone and student distilled; print what teaching gave"),
    "check": ("distill.commands.check", "say every mistake in a config, or what it would train; trains nothing"),
    "eval": ("distill.commands.eval", "evaluate a checkpoint or a run folder on any split or dataset"),
    "cache": ("distill.commands.cache", "compute a teacher's answers ahead of time, for all runs that ask for them"),
    "table": ("distill.commands.table", "print mean ± std by setting, over sweeps, jobs or runs"),
    "info": ("distill.commands.info", "print parameters, FLOPs and the taps of a model with their shapes"),
    "bench": ("distill.bench", "time the framework's step against a bare PyTorch loop"),
}
"""Module and summary of each subcommand; its ``main`` takes the arguments and returns the exit code."""

HELP = """\
distill: knowledge distillation, one command per result

usage: distill COMMAND [arguments]        distill COMMAND --help

{commands}

start here
  distill train                                          digits, in seconds; ends with a table
  distill train --help                                   every group and option of a config
  distill check student=resnet20 dataset=cifar100        is this right? nothing is trained
  distill train -m 'loss=[ce,kd],[ce,dkd]'               a sweep
  distill table runs                                     what all runs gave
  eval "$(distill -sc install=bash)"                     tab completion
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0, 1 for a failure, 2 for mistakes of the user, 128 + signal."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:<7} {text}" for name, (_, text) in COMMANDS.items())))
        return 0
    if argv[0] == "--version":
        from distill import __version__

        print(__version__)
        return 0
    if argv[0] in ("-sc", "--shell-completion"):
        from distill.commands.completion import main as complete

        return complete(argv, list(COMMANDS))
    if argv[0] not in COMMANDS:
        return _unknown(argv[0])
    here = str(Path.cwd())
    if (
        here not in sys.path
    ):  # losses and networks of the user's own, as with python -m; last, so that they hide nothing
        sys.path.append(here)
    module = COMMANDS[argv[0]][0]
    if argv[0] == "train" and {"-h", "--help"} & set(argv):
        module = "distill.commands.help"  # needs no Hydra where it is remembered
    try:
        code = importlib.import_module(module).main(argv[1:])
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return 130
    return int(code)


def _unknown(word: str) -> int:
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, 1)
    hint = f"did you mean {near[0]!r}?" if near else "choose one of them"
    if "=" in word:
        hint = f"overrides come after a command: distill train {word}"
    print(f"distill: no command {word!r}; {hint} ({', '.join(COMMANDS)})", file=sys.stderr)
    return 2
