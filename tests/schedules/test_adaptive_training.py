"""Temperatures that look at a batch, in training: resumed, in two processes, with several teachers, from a cache."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.config import compose, resolved
from distill.fit import STUDENT, fit, folder_of
from distill.plots import curves
from distill.results import Result
from tests.test_ddp import MLP, trained
from tests.test_resume import exact, killed_at

TARGETS = {
    "ctkd": "ctkd.CTKD", "instance": "ctkd_instance.InstanceCTKD", "certainty": "certainty.Certainty",
    "max_logit": "max_logit.MaxLogit,scale:9",
    "dtkd": "dtkd.DTKD", "entropy": "entropy_match.EntropyMatch,low:0.001", "gap": "gap.Gap,by:agreement",
}  # fmt: skip
TERMS = [
    f"+loss.{name}={{_target_:distill.losses.kd.KD,weight:0.2,temperature:{{_target_:distill.schedules.{target}}}}}"
    for name, target in TARGETS.items()
]
"""A term of KD for each, so that one training has them all."""
SMALL = [
    "trainer.max_epochs=3", "trainer.accelerator=cpu", "dataset.batch_size=64", "dataset.train_size=256",
    "dataset.val_fraction=0", "quiet=true", "teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built",
    "checkpoint_every=2", "loss=[ce]", *TERMS,
]  # fmt: skip
# an epoch is 4 steps, the mean of the gaps is over 10
BOTH = ["+teacher.other=${teacher.digits_cnn}", "cache=on", "cache.dtype=float32"]


def config(out: Path, *overrides: str) -> dict[str, Any]:
    return resolved(compose([*SMALL, f"out={out}", *overrides]))


@pytest.mark.parametrize("more", [[], pytest.param(["ema_decay=0.9", *BOTH], marks=pytest.mark.slow)], ids=str)
@pytest.mark.slow
def test_fit__killed_and_started_again_is_bit_identical(more: list[str], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cfg = config(tmp_path / "whole", *more)
    record = fit(cfg, [], "whole")
    for name in TARGETS:
        path = [row[f"schedule/{name}.temperature"] for row in record["history"]]
        assert len(path) == 3
        assert len(set(path)) == 3
    broken = config(tmp_path / "broken", *more)
    assert killed_at(7, signal.SIGKILL, broken) == -signal.SIGKILL
    assert exact(fit(broken, [], "again")["history"]) == exact(record["history"])
    weights, again = (load_file(folder_of(one) / STUDENT) for one in (cfg, broken))
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    curves(Result({}, {"distilled": [record], "alone": [record]}, {}, []), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_fit__a_learned_temperature_moves_with_the_optimizer_and_is_saved(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cfg = config(tmp_path, "+loss.ctkd.temperature.decay_loops=1", "trainer.max_epochs=2")
    fit(cfg, [], "learned")
    state = torch.load(folder_of(cfg) / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state["objective.losses.ctkd.temperature.theta"].item() != 1.0
    assert not any("objective" in key for key in load_file(folder_of(cfg) / STUDENT))


@pytest.mark.slow
def test_fit__two_processes_learn_the_temperature_of_one(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    given = [*MLP, "loss=[ce]", *TERMS]
    one, alone = trained(tmp_path, 1, given)
    two, both = trained(tmp_path, 2, given)
    assert max((alone[k] - both[k]).abs().max().item() for k in alone) < 1e-5
    for a, b in zip(one["history"], two["history"], strict=True):
        for name in TARGETS:
            key = f"schedule/{name}.temperature"
            assert b[key] == pytest.approx(a[key], rel=1e-4), key
            assert b[f"grad_norm/{name}"] > 0
