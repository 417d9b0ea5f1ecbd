"""Two processes with half a batch each take the steps of one process with the whole batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.config import compose, resolved
from distill.fit import STUDENT, fit, folder_of
from distill.records import Record
from tests.ranks import fit_in_two

MLP = ["student._target_=tests.networks_for_tests.mlp", "+student.hidden=32", "~student.width", "~student.channels"]


def trained(out: Path, devices: int, overrides: list[str]) -> tuple[Record, dict[str, torch.Tensor]]:
    settings = [
        "trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.batch_size=128", "dataset.train_size=600",
        "dataset.val_fraction=0", "quiet=true", "teacher=[digits_cnn]",
        "teacher.digits_cnn.checkpoint=built", f"trainer.devices={devices}",
        f"trainer.strategy={'ddp' if devices > 1 else 'auto'}", f"out={out}",
    ]  # fmt: skip
    cfg: dict[str, Any] = resolved(compose([*settings, *overrides]))
    record = fit(cfg, [], "one") if devices == 1 else fit_in_two(cfg)
    return record, load_file(folder_of(cfg) / STUDENT)


KEPT = ["cache=on", "cache.dtype=float32", "cache.fill=ahead"]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], KEPT], ids=["online", "cache filled ahead by both"])
def test_fit__two_processes_average_to_the_gradient_of_one(more: list[str], tmp_path: Path) -> None:
    """For a net without batch statistics."""
    torch.set_num_threads(1)
    one, alone = trained(tmp_path, 1, MLP)
    two, both = trained(tmp_path, 2, [*MLP, *more])
    assert max((alone[k] - both[k]).abs().max().item() for k in alone) < 1e-6
    assert two["steps"] == one["steps"]
    for a, b in zip(one["history"], two["history"], strict=True):
        assert b["train/loss"] == pytest.approx(a["train/loss"], rel=1e-5)
        assert b["test/accuracy"] == pytest.approx(a["test/accuracy"], abs=1e-6)
