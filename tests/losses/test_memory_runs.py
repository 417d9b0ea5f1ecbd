"""Whole runs with memories: on two devices as on one, resumed under weight averaging, and without labels."""

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.fit import LAST, STUDENT, fit, folder_of
from tests.ranks import fit_in_two
from tests.test_ddp import MLP
from tests.test_resume import config, exact, killed_at

VECTORS = ["crd", "seed", "compress"]
TAPS = [f"loss.{name}.student_tap='1'" for name in ("rkd", *VECTORS)]
SIZES = ["loss.crd.negatives=64", "loss.crd.dim=16", "loss.seed.queue=256", "loss.compress.queue=256"]


@pytest.mark.slow
def test_fit__two_processes_relate_the_samples_of_both(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    terms = [*MLP, "loss=[ce,rkd,crd,seed,compress]", "loss.rkd.weight=0.1", "trainer.max_epochs=2", *TAPS, *SIZES]
    cfg = config(tmp_path, *terms)
    one, alone = fit(cfg, [], "one"), load_file(folder_of(cfg) / STUDENT)
    cfg = config(tmp_path, *terms, "trainer.devices=2", "trainer.strategy=ddp")
    two, both = fit_in_two(cfg), load_file(folder_of(cfg) / STUDENT)
    assert max((alone[k] - both[k]).abs().max().item() for k in alone) < 1e-5
    for a, b in zip(one["history"], two["history"], strict=True):
        for name in ("rkd", *VECTORS):
            assert b[f"loss/{name}"] == pytest.approx(a[f"loss/{name}"], rel=1e-4)


@pytest.mark.slow
def test_fit__resumes_memories_under_weight_averaging_and_without_ce(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    terms = ["loss=[crd,seed,compress]", "loss.compress.queues=2", "ema_decay=0.9", *SIZES]
    whole, broken = config(tmp_path / "whole", *terms), config(tmp_path / "broken", *terms)
    record = fit(whole, [], "whole")
    assert killed_at(8, signal.SIGKILL, broken) == -signal.SIGKILL
    again = fit(broken, [], "again")
    assert exact(again["history"]) == exact(record["history"])
    weights, resumed = (load_file(folder_of(cfg) / STUDENT) for cfg in (whole, broken))
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())

    state = torch.load(folder_of(whole) / LAST, weights_only=True)
    banks = [k for k in state["state_dict"] if k.endswith("_extra_state") and "bank" in state["state_dict"][k]]
    assert len(banks) == 5
    for name in banks:  # saved once, for the weights of the moment and the averaged ones
        kept, averaged = (state[part][name]["bank"] for part in ("current_model_state", "state_dict"))
        assert kept.data_ptr() == averaged.data_ptr()
