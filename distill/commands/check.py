"""`distill check`: says every mistake in a config, or what it would train; trains nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from distill import memo


def main(arguments: Sequence[str]) -> int:
    """Check what ``distill train`` with these arguments would do; return 0 when nothing speaks against it, else 2."""
    name = memo.key("check", arguments)
    known = memo.recall(name)
    if known is None:
        return _main(arguments, name)
    print(*known["lines"], sep="\n", file=sys.stderr if known["code"] else sys.stdout)
    return int(known["code"])


def _main(arguments: Sequence[str], name: str) -> int:
    from distill.commands import train
    from distill.commands.plan import plan
    from distill.commands.preflight import look, parsed
    from distill.config import ConfigError
    from distill.resolving import resolve

    typed = [*arguments, "check=only"]
    try:
        line = parsed(typed)
    except ConfigError:
        return train.main(typed)  # which says what is wrong with it
    if line.help or line.hydra_help or line.info or line.shell_completion or line.experimental_rerun or line.cfg:
        return train.main(typed)
    found = look(line, early=train.say_early)
    code = train.report(found)
    lines = train.mistaken(found) if found.mistakes else plan(found)
    if found.lasting and not line.config_path and not any("searchpath" in word for word in arguments):
        configs = [config for cell in found.cells for config in (cell.config, resolve(cell.config)[0])]
        folders = memo.folders_of(line.config_dir) if line.config_dir else ()
        memo.keep(name, {"code": code, "lines": lines}, configs, lines, folders)
    return code
