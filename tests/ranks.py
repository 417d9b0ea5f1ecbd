"""Trainings of two processes, forked with their imports behind them: starting ranks anew costs most of a minute."""

import multiprocessing
import os
import socket
from typing import Any

import torch

from distill.fit import fit
from distill.records import Record


def fit_in_two(cfg: dict[str, Any]) -> Record:
    """Train a resolved config with ``trainer.devices=2`` as a launcher's two ranks would; return the record of both."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=_rank, args=(rank, port, cfg)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    return fit(cfg, [], "read, not trained")


def _rank(rank: int, port: int, cfg: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fit(cfg, [], "two")
    os._exit(0)
