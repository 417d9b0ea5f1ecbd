"""The store: what goes in comes out, and what is not what was written is refused with the reason."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cache import topk
from distill.cache.layout import Layout
from distill.cache.manifest import Manifest, difference
from distill.cache.store import Store

FIELDS = {"logits": ("float16", 7), "pooled": ("float32", 3), "wide": ("bfloat16", 5), "classes": ("int16", 2)}
BASE = Manifest(
    teacher={"network": "Net", "weights": "abc"}, data={"hash": "d1", "shape": "3x32x32"}, transform="CropFlip()",
    drawn=None, samples=50, views=4, classes=7, top_k=None, fields=FIELDS,
)  # fmt: skip


def values(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    floats = {name: torch.randn(count, FIELDS[name][1], generator=generator) for name in ("logits", "pooled", "wide")}
    return {**floats, "classes": torch.randint(0, 30_000, (count, 2), generator=generator)}


def opened(folder: Path, manifest: Manifest = BASE, **settings: Any) -> Store:
    return Store.open(folder, manifest, **settings)


def test_look__gives_what_was_put_in_any_order(tmp_path: Path) -> None:
    store, slots = opened(tmp_path / "c"), torch.randperm(200)[:90]
    given = values(90)
    store.put(slots[:40], {k: v[:40] for k, v in given.items()})
    store.put(slots[40:], {k: v[40:] for k, v in given.items()})
    assert store.filled() == 90
    order = torch.randperm(90)
    found, got = opened(tmp_path / "c").look(slots[order])
    assert bool(found.all())
    for name, dtype in (("logits", torch.float16), ("pooled", torch.float32), ("wide", torch.bfloat16)):
        assert got[name].dtype == torch.float32
        assert torch.equal(got[name], given[name].to(dtype).float()[order])
    assert torch.equal(got["classes"], given["classes"][order])


def test_look__says_what_is_not_there(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    store.put(torch.tensor([3, 4, 150]), values(3))
    found, got = store.look(torch.tensor([4, 5, 150, 199]))
    assert found.tolist() == [True, False, True, False]
    assert got["logits"][1].abs().max() == 0
    assert store.there(torch.tensor([3, 2])).tolist() == [True, False]


def test_put__leaves_what_is_there_and_takes_a_slot_twice(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    first = values(1)
    store.put(torch.tensor([8]), first)
    store.put(torch.tensor([8, 9, 9]), {k: torch.cat([v, first[k], first[k]]) for k, v in values(1, seed=1).items()})
    _, got = store.look(torch.tensor([8, 9]))
    assert torch.equal(got["pooled"], first["pooled"].expand(2, -1))


def test_put__refuses_what_the_dtype_cannot_hold(tmp_path: Path) -> None:
    store = opened(tmp_path / "c")
    with pytest.raises(ValueError, match=r"logits reach 1e\+05, which float16 cannot hold; set cache.dtype=float32"):
        store.put(torch.tensor([0]), {**values(1), "logits": torch.full((1, 7), 1e5)})
    with pytest.raises(ValueError, match="are not finite"):
        store.put(torch.tensor([0]), {**values(1), "logits": torch.full((1, 7), torch.nan)})
    assert store.filled() == 0


@pytest.mark.parametrize("byte", [0, 1, 13, 16, 30])
@pytest.mark.parametrize("bit", [0, 7])
def test_look__refuses_a_flipped_bit(tmp_path: Path, byte: int, bit: int) -> None:
    store = opened(tmp_path / "c")
    store.put(torch.arange(200), values(200))
    with (tmp_path / "c/records.bin").open("r+b") as file:
        file.seek((2 * 50 + 17) * store.layout.words * 8 + byte)
        old = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([old ^ (1 << bit)]))
    assert bool(store.look(torch.arange(100))[0].all())
    with pytest.raises(ValueError, match=r"c is damaged: record of sample 17, view 2; delete that folder"):
        store.look(torch.arange(100, 150))


def test_checksums__tell_swapped_words_paired_bits_and_places() -> None:
    layout = Layout({"logits": ("float32", 16)})
    record = layout.encode({"logits": torch.randn(1, 16)})
    slot = torch.tensor([5]).numpy()
    whole = layout.checksums(record, slot)
    swapped, highest = record.copy(), record.copy()
    swapped[:, [0, 1]] = record[:, [1, 0]]
    highest[:, [0, 1]] ^= 1 << 63
    assert whole != layout.checksums(swapped, slot)
    assert whole != layout.checksums(highest, slot)
    assert whole != layout.checksums(record, slot + 1)
    assert whole >= 1


CHANGED: dict[str, Any] = {
    "teacher.weights": {"teacher": {"network": "Net", "weights": "xyz"}},
    "teacher.precision": {"teacher": {**BASE.teacher, "precision": "bf16"}},
    "data.hash": {"data": {"hash": "d2", "shape": "3x32x32"}}, "transform": {"transform": "none"},
    "drawn": {"drawn": "seed 1"}, "samples": {"samples": 51}, "views": {"views": 5}, "classes": {"classes": 8},
    "top_k": {"top_k": 2}, "fields.logits": {"fields": {**FIELDS, "logits": ("float32", 7)}}, "version": {"version": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", list(CHANGED))
def test_open__refuses_another_cache(tmp_path: Path, name: str) -> None:
    opened(tmp_path / "c")
    other = replace(BASE, **CHANGED[name])
    assert other.key != BASE.key
    with pytest.raises(ValueError, match=rf"c is another one: its {name} is .* is wanted.*delete that folder"):
        opened(tmp_path / "c", other)
    assert difference(BASE, BASE.plain()) is None


@pytest.mark.parametrize("name", ["records.bin", "sums.bin"])
def test_open__refuses_truncated_and_missing_files(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path / "c")
    size = (tmp_path / "c" / name).stat().st_size
    assert size == 200 * (4 if name == "sums.bin" else store.layout.words * 8)
    os.truncate(tmp_path / "c" / name, size - 1)
    with pytest.raises(ValueError, match=rf"{name} has {size - 1:,} bytes instead of {size:,}; delete"):
        opened(tmp_path / "c")
    (tmp_path / "c" / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} has 0 bytes"):
        opened(tmp_path / "c")


def test_open__refuses_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"is no teacher cache, it holds thesis.tex; choose another"):
        opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is no JSON"):
        opened(tmp_path)


def test_open__says_the_size_first_and_refuses_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    large = replace(BASE, samples=50_000, views=162, fields={"logits": ("float16", 100)})
    with pytest.raises(ValueError, match=r"cache.limit_gb=1.5: a teacher cache of 50,000 samples x 162 views: 1.65 GB"):
        opened(tmp_path / "c", large, limit_gb=1.5, say=said.append)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2, 1, 10**9))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"still needs 1.65 GB, and 1.00 GB are free"):
        opened(tmp_path / "c", large, limit_gb=2, say=said.append)
    assert not said
    assert not (tmp_path / "c").exists()
    monkeypatch.undo()
    store = opened(tmp_path / "c", large, limit_gb=2, say=said.append)
    assert said == [f"note: teacher cache of 50,000 samples x 162 views: 1.65 GB in {tmp_path / 'c'}"]
    assert (store.folder / "records.bin").stat().st_blocks == 0  # nothing is written before there is an answer


def test_open__makes_anew_what_was_interrupted_before_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/records.bin").write_bytes(b"x" * 10)
    assert opened(tmp_path / "c").filled() == 0


def test_topk__keeps_the_probabilities_of_the_largest_and_the_mass_of_the_others() -> None:
    logits = torch.randn(64, 100) * 4
    layout = Layout(topk.fields(10, 100, "float16"))
    assert layout.words * 8 < 100 * 2 / 3
    back = topk.unpack(layout.decode(layout.encode(topk.pack(logits, 10))), 100)
    assert torch.equal(back.topk(10).indices.sort().values, logits.topk(10).indices.sort().values)
    ours, theirs = back.log_softmax(1), logits.log_softmax(1)
    largest = logits.topk(10).indices
    assert (ours - theirs).gather(1, largest).abs().max() < 0.02  # rounding of float16 at logits of up to 16
    left = theirs.exp().scatter(1, largest, 0).sum(1)
    assert torch.allclose(ours.exp().scatter(1, largest, 0).sum(1), left, rtol=0.02)
