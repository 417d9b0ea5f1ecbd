"""Tab completion: Hydra's own, behind the word that names the command."""

from __future__ import annotations

import os
from collections.abc import Sequence

HYDRA = ("train", "check", "info", "cache")
"""Commands whose arguments are overrides."""


def main(arguments: Sequence[str], commands: Sequence[str]) -> int:
    """Answer ``-sc install=SHELL``, ``-sc uninstall=SHELL`` and the shell's ``-sc query=SHELL``; return the exit code.

    Args:
        arguments: as they were typed, ``-sc`` first.
        commands: words that may stand after the program's name.
    """
    from distill.commands import train

    if len(arguments) == 2 and arguments[1].startswith("query="):
        program, *words = os.environ.get("COMP_LINE", "distill").split(" ")
        before = [word for word in words[:-1] if word]
        if not before:
            print(" ".join(c for c in commands if not words or c.startswith(words[-1])))
            return 0
        if before[0] not in HYDRA:
            return 0  # the shell then completes names of files
        os.environ["COMP_LINE"] = " ".join([program, *words[words.index(before[0]) + 1 :]])
    return train.main(arguments)
