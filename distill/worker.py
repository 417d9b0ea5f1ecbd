"""Entry of a training process: `python -m distill.worker JOB.json`; Lightning repeats just this line for each rank."""

from __future__ import annotations

import sys

from distill.fit import read_job


def main(arguments: list[str]) -> int:
    """Train the one run that a job file describes."""
    from distill.training import train

    cfg, overrides, title, folder = read_job(arguments[0])
    train(cfg, folder, overrides, title)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
