"""Entry of a training process: `python -m distill.worker JOB.json`; Lightning repeats just this line for each rank."""

from __future__ import annotations

import sys

from distill.config import ConfigError
from distill.fit import TERMINATED, Interrupted, read_job


def main(arguments: list[str]) -> int:
    """Train the one run that a job file describes."""
    from distill.modules.base import DivergenceError
    from distill.training import train

    cfg, overrides, title, folder = read_job(arguments[0])
    try:
        train(cfg, folder, overrides, title)
    except Interrupted:
        return TERMINATED
    except (ConfigError, DivergenceError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
