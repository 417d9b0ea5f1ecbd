"""`distill bench NAME`: ratios measured side by side in one run, never absolute speed claims."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

BENCHES = {
    "step": "a training step with logging, metrics.csv and checkpoint against a hand-written loop of the same work",
    "epoch": "an epoch of KD on CIFAR-100-shaped images, loading included; beside public code with --peer",
    "memory": "peak resident memory of a training against the hand-written loop's, each in a fresh process",
    "students": "eight students in one process on one pass of the teacher against eight trainings one by one",
    "sweep": "eight temperatures with one teacher cache, filling it included, against eight trainings without",
    "startup": "seconds of commands that need no torch, and to the first optimizer step beside Lightning's import",
    "cached": "an epoch of KD with a full teacher cache against an epoch of plain cross-entropy, in the same loop",
    "losses": "value and gradient of every loss in conf/loss beside kd, batches of 64 to 1024, and their memory",
    "cache": "looking a teacher's answers up, checksums and all, against taking them from a bare memory map",
}
"""What each benchmark measures; its module ``distill.bench.NAME`` has ``measure(options) -> Measured``."""
REPORT = "report"
"""Not a benchmark: prints what the records in a folder say as a table."""


def main(arguments: Sequence[str]) -> int:
    """Run a benchmark, print its ratios and write its record where one is asked for; return the exit code."""
    listed = "\n".join(f"  {name:<9} {text}" for name, text in [*BENCHES.items(), (REPORT, "a table of records")])
    parser = argparse.ArgumentParser(
        "distill bench", description=f"Prints ratios measured side by side, alternating, in one run.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("name", choices=[*BENCHES, REPORT], metavar="NAME")
    parser.add_argument("overrides", nargs="*", help="config overrides; with report: the folder of the records")
    parser.add_argument("--rounds", type=int, default=5, help="alternations (default 5)")
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps a round")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of PyTorch")
    parser.add_argument("--record", metavar="FILE", help="also write the measurement to a JSON file")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=FOLDER", help="public code beside ours")
    options = parser.parse_intermixed_args(list(arguments))
    if options.name == REPORT:
        from distill.bench.measured import report

        print(report((options.overrides or ["."])[0]))
        return 0
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from distill.config import ConfigError

    try:
        measured = importlib.import_module(f"distill.bench.{options.name}").measure(options)
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        print(str(error).partition("\n")[0], file=sys.stderr)  # Hydra goes on with its search path
        return 2
    measured.show()
    if options.record:
        measured.write(options.record, ["distill", "bench", *arguments])
    return 0
