"""A training with a cache is the training without one: bit for bit where float32 is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from distill.assemble import assemble, make_network
from distill.cache.teacher import Cached
from distill.config import compose, resolved
from distill.fit import STUDENT, fit, folder_of
from distill.teachers.frozen import Frozen

SETTINGS = [
    "teacher.digits_cnn.checkpoint=built", "trainer.max_epochs=3", "trainer.accelerator=cpu", "dataset.train_size=400",
    "dataset.batch_size=48", "quiet=true",
]  # fmt: skip


def trained(folder: Path, *overrides: str) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    torch.set_num_threads(1)
    cfg: dict[str, Any] = resolved(compose([*SETTINGS, f"out={folder}", *overrides]))
    record = fit(cfg, [], "test")
    return load_file(folder_of(cfg) / STUDENT), record["history"]


def kept(dtype: str, folder: Path) -> list[str]:
    return ["cache=on", f"cache.dtype={dtype}", f"cache.folder={folder}"]


@pytest.mark.slow
def test_training__with_a_cache_is_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    online, history = trained(tmp_path / "online")
    asked, answer = [], Frozen._answer

    def counted(self: Frozen, batch: Any) -> Any:
        if batch.slot is not None:
            asked.append(len(batch.target))
        return answer(self, batch)

    monkeypatch.setattr(Frozen, "_answer", counted)
    for attempt in ("filling", "full"):
        asked.clear()
        state, rows = trained(tmp_path / attempt, *kept("float32", tmp_path / "cache"))
        assert bool(asked) == (attempt == "filling")
        assert sum(asked) < 3 * 360
        assert all(torch.equal(state[name], value) for name, value in online.items())
        for row, expected in zip(rows, history, strict=True):
            assert {k: v for k, v in row.items() if k != "seconds"} == {
                k: pytest.approx(v, rel=1e-6) if k.endswith("nll") else v for k, v in expected.items() if k != "seconds"
            }


def test_training__float16_differs_by_rounding(tmp_path: Path) -> None:
    _, exact = trained(tmp_path / "online")
    _, rounded = trained(tmp_path / "cached", *kept("float16", tmp_path / "cache"))
    for a, b in zip(exact, rounded, strict=True):
        assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-3)


def test_training__filled_ahead_asks_for_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    online, _ = trained(tmp_path / "online")
    cached = [*kept("float32", tmp_path / "cache"), "cache.fill=ahead"]
    monkeypatch.setattr(Cached, "_fill", lambda *_: pytest.fail("computed while training"))
    state, _ = trained(tmp_path / "ahead", *cached)
    assert all(torch.allclose(state[name], value, atol=1e-5) for name, value in online.items())


def test_training__drawn_views_are_gone_through_in_turn(tmp_path: Path) -> None:
    mixed = ["dataset/mix=cutmix", "cache=on", "cache.views=2", f"cache.folder={tmp_path / 'cache'}"]
    torch.set_num_threads(1)
    cfg = resolved(compose([*SETTINGS, *mixed, f"out={tmp_path}"]))
    data = assemble(cfg, caches=True).data
    by_index = [
        {int(i): image for b in data.train_batches(epoch) for i, image in zip(b.index, b.inputs, strict=True)}
        for epoch in range(3)
    ]
    assert all(torch.equal(by_index[0][i], by_index[2][i]) for i in by_index[0])
    assert not all(torch.equal(by_index[0][i], by_index[1][i]) for i in by_index[0])
    assert fit(cfg, [], "mixed")["status"] == "complete"


@pytest.mark.slow
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
