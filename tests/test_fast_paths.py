"""Each fast path gives what the plain one gives: the same bits where it rounds alike, else up to rounding."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.assemble import assemble
from distill.config import compose, resolved
from distill.fit import STUDENT, fit, folder_of
from distill.records import Record
from distill.training import pace

SMALL = [
    "trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.batch_size=64", "dataset.train_size=600",
    "dataset.val_fraction=0.1", "quiet=true", "teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built",
    "optimizer.lr=0.05",
]  # fmt: skip
# an epoch is 9 batches: 540 images


def trained(out: Path, *overrides: str) -> tuple[Record, dict[str, Tensor]]:
    torch.set_num_threads(1)
    cfg: dict[str, Any] = resolved(compose([*SMALL, f"out={out}", *overrides]))
    return fit(cfg, [], "fast"), load_file(folder_of(cfg) / STUDENT)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, dict[str, Tensor]]:
    return trained(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("steps", [1, 4])
def test_chunk__any_number_of_steps_a_call_gives_the_same_bits(
    reference: tuple[Record, dict[str, Tensor]], tmp_path: Path, steps: int
) -> None:
    record, weights = trained(tmp_path, f"trainer.log_every_n_steps={steps}")
    assert all(torch.equal(value, weights[name]) for name, value in reference[1].items())
    for one, other in zip(reference[0]["history"], record["history"], strict=True):
        assert {k: v for k, v in one.items() if k not in ("seconds", "train/grad_norm")} == {
            k: pytest.approx(v, rel=1e-12) for k, v in other.items() if k not in ("seconds", "train/grad_norm")
        }


@pytest.mark.parametrize("overrides", [["checkpoint_every=2"], ["trainer.limit_train_batches=9"]], ids=lambda o: o[0])
def test_chunk__where_it_ends_changes_nothing(
    reference: tuple[Record, dict[str, Tensor]], tmp_path: Path, overrides: list[str]
) -> None:
    weights = trained(tmp_path, *overrides)[1]
    assert all(torch.equal(value, weights[name]) for name, value in reference[1].items())


@pytest.mark.parametrize(
    "overrides",
    [["channels_last=false"], ["optimizer.fused=false"], ["teacher.digits_cnn.fold=false"]],
    ids=lambda o: o[0],
)
def test_training__a_fast_path_changes_weights_by_rounding_only(
    reference: tuple[Record, dict[str, Tensor]], tmp_path: Path, overrides: list[str]
) -> None:
    record, weights = trained(tmp_path, *overrides)
    for name, value in reference[1].items():
        assert torch.allclose(value, weights[name], rtol=1e-3, atol=1e-4), name
    assert record["history"][-1]["train/loss"] == pytest.approx(reference[0]["history"][-1]["train/loss"], rel=1e-4)


def test_training__max_steps_ends_inside_a_call(tmp_path: Path) -> None:
    record, _ = trained(tmp_path, "+trainer.max_steps=5")
    assert record["steps"] == 5


def test_training__two_half_batches_accumulate_to_one(tmp_path: Path) -> None:
    plain = [
        "student._target_=tests.networks_for_tests.mlp", "+student.hidden=32", "~student.width", "~student.channels",
        "dataset.val_fraction=0", "dataset.train_size=512", "dataset.augment=null",
    ]  # fmt: skip
    whole = trained(tmp_path, *plain, "dataset.batch_size=128")
    halves = trained(tmp_path, *plain, "dataset.batch_size=64", "trainer.accumulate_grad_batches=2")
    assert whole[0]["steps"] == halves[0]["steps"] == 8
    for name, value in whole[1].items():
        assert torch.allclose(value, halves[1][name], atol=1e-6), name


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_training__gradients_are_clipped_as_lightning_names_it(tmp_path: Path, algorithm: str) -> None:
    extra = ["trainer.gradient_clip_val=0.001", f"+trainer.gradient_clip_algorithm={algorithm}", "trainer.max_epochs=1"]
    options = ["optimizer.momentum=0", "optimizer.weight_decay=0", "optimizer.lr=1.0", "trainer.limit_train_batches=1"]
    cfg = resolved(compose([*SMALL, *extra, *options, f"out={tmp_path}"]))
    start = {k: v.clone() for k, v in assemble(cfg).student.network.named_parameters()}
    weights = trained(tmp_path, *extra, *options)[1]
    steps = torch.cat([(weights[k] - v.detach()).flatten() for k, v in start.items()])
    assert float(steps.norm() if algorithm == "norm" else steps.abs().max()) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(
    ("overrides", "chunk"),
    [
        ([], 50),
        (["trainer.log_every_n_steps=7"], 7),
        (["trainer.log_every_n_steps=7", "trainer.accumulate_grad_batches=2"], 8),
        (["ema_decay=0.9"], 1),
        (["+trainer.val_check_interval=1.0"], 1),
        (["dataset.workers=1"], 1),
        (["student.width=512"], 1),
    ],
    ids=str,
)
def test_pace__is_decided_by_what_a_step_costs_and_who_counts_steps(overrides: list[str], chunk: int) -> None:
    cfg = resolved(compose([*SMALL, *overrides]))
    assert pace(cfg, assemble(cfg), torch.device("cpu")).chunk == chunk
