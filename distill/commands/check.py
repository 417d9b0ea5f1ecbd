"""`distill check`: says every mistake in a config, or what it would train; trains nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from distill.config import compose


def main(arguments: Sequence[str]) -> int:
    """Check the config that overrides describe; return 0 when there is nothing to say against it, else 2."""
    from distill.check import problems

    found = problems(compose(list(arguments)))
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 2 if found else 0
