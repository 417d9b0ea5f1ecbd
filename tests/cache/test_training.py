"""A training with a cache is the training without one: bit for bit where float32 is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.assemble import assemble, make_network
from distill.cache import Policy
from distill.cache.build import make_cache
from distill.cache.teacher import Cached
from distill.config import compose, resolved
from distill.modules.single_teacher import SingleTeacher
from distill.training import make_trainer, quiet_lightning

SETTINGS = [
    "teacher.digits_cnn.checkpoint=built", "trainer.max_epochs=3", "trainer.accelerator=cpu", "dataset.train_size=400",
    "dataset.batch_size=48", "quiet=true",
]  # fmt: skip


def trained(folder: Path, policy: Policy | None) -> tuple[dict[str, Tensor], list[dict[str, float]], Cached | None]:
    quiet_lightning()
    cfg: dict[str, Any] = resolved(compose([*SETTINGS, f"out={folder}"]))
    parts = assemble(cfg)
    cached = None
    if policy is not None:
        assert isinstance(parts.module, SingleTeacher)
        cached = make_cache(policy, parts.teachers["digits_cnn"], parts.data, "digits_cnn", say=lambda text: None)
        parts.module.teacher, parts.data.slots = cached, cached.slots
    make_trainer(cfg, parts, folder, {}, "test").fit(parts.module, parts.data)
    return dict(parts.student.network.state_dict()), parts.module.history, cached


def kept(dtype: Any, folder: Path) -> Policy:
    return Policy(views="all", dtype=dtype, top_k=None, fill="lazy", folder=str(folder), limit_gb=1.0)


def test_training__with_a_cache_is_bit_identical(tmp_path: Path) -> None:
    online, history, _ = trained(tmp_path / "online", None)
    policy = kept("float32", tmp_path / "cache")
    for attempt, most in (("filling", 3 * 360), ("full", 0)):
        state, rows, cached = trained(tmp_path / attempt, policy)
        assert cached is not None
        assert cached.forwards <= most
        assert all(torch.equal(state[name], value) for name, value in online.items())
        for row, expected in zip(rows, history, strict=True):
            assert {k: v for k, v in row.items() if k != "seconds"} == {
                k: v for k, v in expected.items() if k != "seconds"
            }


def test_training__float16_differs_by_rounding(tmp_path: Path) -> None:
    _, exact, _ = trained(tmp_path / "online", None)
    _, rounded, _ = trained(tmp_path / "cached", kept("float16", tmp_path / "cache"))
    for a, b in zip(exact, rounded, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-3)


@pytest.mark.parametrize(
    "name, shape", [("digits_cnn", (1, 8, 8)), ("resnet20", (3, 32, 32)), ("resnet8x4", (3, 32, 32))]
)
def test_logits__do_not_depend_on_batch_size_or_mates(name: str, shape: tuple[int, int, int]) -> None:
    """What a cache filled in other batches relies on, on a CPU with one thread.

    A batch of a single image is the exception: its convolutions take another path, and differ in the last bits.
    """
    data = "digits" if name == "digits_cnn" else "cifar100"
    node = resolved(compose([f"student={name}", f"dataset={data}", "dataset.root=x"][: 3 if data == "cifar100" else 2]))
    network = make_network(node["student"], "student", None).eval()
    images = torch.randn(128, *shape)
    with torch.inference_mode():
        whole = network(images)
        for size in (7, 32, 64):
            assert torch.equal(torch.cat([network(part) for part in images.split(size)])[:126], whole[:126])
        assert torch.equal(network(images[:64].flip(0)).flip(0), whole[:64])
        assert torch.equal(network(torch.cat([images[:1], images[65:]]))[0], whole[0])
        assert torch.allclose(network(images[:1]), whole[:1], atol=1e-4)
