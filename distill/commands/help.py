"""`distill train --help`: composed from the groups the first time, remembered until one of them changes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from distill import memo


def main(arguments: Sequence[str]) -> int:
    """Print every group and option of a config; return the exit code."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd")
    folder = parser.parse_known_args(list(arguments))[0].config_dir
    name = memo.key("help", folder)
    known = memo.recall(name)
    if known is None:
        from distill.commands.preflight import Findings, parsed
        from distill.commands.train import report
        from distill.commands.usage import usage
        from distill.config import ConfigError

        try:
            parsed(arguments)
        except ConfigError as error:
            return report(Findings(error.problems))
        known = {"text": usage(folder)}
        memo.keep(name, known, {}, paths=memo.folders_of(folder) if folder else ())
    print(known["text"])
    return 0
