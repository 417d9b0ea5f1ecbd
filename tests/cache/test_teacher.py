"""The cached teacher: the same answers as the teacher, each computed once; and what it refuses before training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.cache import Policy
from distill.cache.build import make_cache, make_slots
from distill.cache.manifest import dataset_hash, described, weights_hash
from distill.data.augment import CropFlip, ResizedCropFlip
from distill.data.image_folder import PathSource
from distill.data.images import ArrayImages, FileImages
from distill.data.mix import Mixup
from distill.data.synthetic import Synthetic
from distill.outputs import InputSpec
from distill.teachers.base import Teacher
from distill.teachers.frozen import Frozen
from tests.cache.parts import Counting, computed, make, split, stream

ON: dict[str, Any] = {
    "views": "all", "dtype": "float16", "top_k": None, "fill": "lazy", "folder": None, "limit_gb": 1.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "distill"))


def data(**changed: Any) -> Synthetic:
    settings: dict[str, Any] = {
        "num_classes": 4, "channels": 1, "image_size": (8, 8), "mean": (0.5,), "std": (0.5,), "batch_size": 16,
        "eval_batch_size": 32, "val_fraction": 0.1, "split_seed": 0, "train_size": None, "class_subset": None,
        "augment": CropFlip(1, flip=True), "workers": 0, "seed": 0, "samples": 120, "mix": None, "resident_gb": 1.0,
    }  # fmt: skip
    return Synthetic(**{**settings, **changed})


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))


def frozen(taps: list[str], seed: int = 0, precision: str = "32") -> Frozen:
    teacher = Frozen(network(seed), precision)
    teacher.read(InputSpec((0.5,), (0.5,)), taps)
    return teacher


def test_prefetch__answers_as_the_teacher_and_asks_it_once(tmp_path: Path) -> None:
    cached, views = make(tmp_path)
    teacher = cached.teacher
    assert isinstance(teacher, Counting)
    batches = list(stream(views, 3))
    for first in range(0, len(batches), 4):
        chunk = batches[first : first + 4]
        cached.prefetch(chunk)
        asked = len(teacher.sizes)
        for batch in chunk:
            expected, told = teacher.answer(batch.inputs), cached(batch)
            assert torch.equal(told.logits, expected.logits)
            assert torch.equal(told.features["pooled"], expected.features["pooled"].half().float())
        assert len(teacher.sizes) == asked
    slots = torch.cat([batch.slot for batch in batches if batch.slot is not None])
    assert len(computed(tmp_path / "log")) == cached.forwards == len(slots.unique())
    assert set(teacher.sizes) == {100}


def test_call__looks_up_what_was_not_fetched_and_asks_the_teacher_without_a_slot(tmp_path: Path) -> None:
    cached, views = make(tmp_path)
    batch = next(iter(stream(views, 1)))
    told = cached(batch)
    assert cached.forwards == 250
    assert torch.equal(told.logits, cached(batch).logits)
    other = batch._replace(slot=None)
    assert torch.equal(cached(other).logits, told.logits)
    assert cached.forwards == 250
    assert cached.specs((1, 8, 8)) == cached.teacher.specs((1, 8, 8))
    assert cached.sees_pixels


def test_cached__outputs_are_float32_leaves_that_a_loss_may_read(tmp_path: Path) -> None:
    cached, views = make(tmp_path)
    logits = cached(next(iter(stream(views, 1)))).logits
    assert (logits.dtype, logits.requires_grad, logits.is_inference()) == (torch.float32, False, False)


def test_make_cache__one_folder_for_each_teacher_and_transform(tmp_path: Path) -> None:
    policy = Policy(**ON)
    names = set()
    for teacher in (frozen([]), frozen([], seed=1), frozen(["2"])):
        names.add(make_cache(policy, teacher, data(), "net", say=lambda text: None).store.folder.name)
    names.add(make_cache(policy, frozen([]), data(augment=None), "net", say=lambda text: None).store.folder.name)
    assert len(names) == 4
    same = make_cache(policy, frozen([]), data(val_fraction=0.4, seed=5, batch_size=8), "net", say=lambda text: None)
    assert same.store.folder.name in names  # what is held out, the seed and the batch are no part of it
    assert same.store.folder.parent == tmp_path / "distill/teachers"


def test_make_cache__drawn_views_belong_to_a_seed_and_a_split(tmp_path: Path) -> None:
    policy = Policy(**{**ON, "views": 3})
    folders = {
        make_cache(policy, frozen([]), data(**changed), "net", say=lambda text: None).store.folder
        for changed in ({}, {"seed": 1}, {"val_fraction": 0.5}, {"batch_size": 8})
    }
    assert len(folders) == 3


def test_make_cache__refuses_the_given_folder_of_another_teacher(tmp_path: Path) -> None:
    policy = Policy(**{**ON, "folder": str(tmp_path / "mine")})
    said: list[str] = []
    make_cache(policy, frozen([]), data(), "net", say=said.append)
    make_cache(policy, frozen([]), data(), "net", say=said.append)
    assert said == [f"note: teacher cache of 120 samples x 18 views: 0.00 GB in {tmp_path / 'mine/net'}"]
    with pytest.raises(ValueError, match=r"mine/net is another one: its teacher.weights is .*delete that folder"):
        make_cache(policy, frozen([], seed=1), data(), "net", say=said.append)


def test_make_cache__refuses_a_spatial_tap_with_its_size() -> None:
    with pytest.raises(ValueError, match=r"tap '0' is 3x6x6, and only vectors are cached: it would take .* GB for 120"):
        make_cache(Policy(**ON), frozen(["0"]), data(), "net")
    kept = make_cache(Policy(**ON), frozen(["2"]), data(), "net", say=lambda text: None)
    assert dict(kept.store.manifest.fields) == {"logits": ("float16", 4), "2": ("float16", 3)}


def test_make_cache__top_k_comes_back_as_logits() -> None:
    data_ = data()
    cached = make_cache(Policy(**{**ON, "top_k": 2}), frozen([]), data_, "net", say=lambda text: None)
    data_.slots = cached.slots
    batch = next(data_.train_batches())
    exact, told = cached.teacher(batch).logits, cached(batch).logits
    assert torch.equal(exact.topk(2).indices, told.topk(2).indices)
    assert torch.allclose(exact.softmax(1).topk(2).values, told.softmax(1).topk(2).values, atol=2e-3)
    with pytest.raises(ValueError, match=r"cache.top_k=4: must be below the 4 classes"):
        make_cache(Policy(**{**ON, "top_k": 4}), frozen([]), data_, "net")


def test_make_slots__all_views_need_an_end_of_them() -> None:
    endless = data(augment=ResizedCropFlip((0.5, 1), (1, 1), flip=True))
    with pytest.raises(ValueError, match=r"cache.views=all: ResizedCropFlip has no end"):
        make_slots(Policy(**ON), endless)
    with pytest.raises(ValueError, match=r"cache.views=all: images that are mixed"):
        make_slots(Policy(**ON), data(mix=Mixup(1.0)))
    assert make_slots(Policy(**{**ON, "views": 4}), data(mix=Mixup(1.0))).views == 4


@pytest.mark.parametrize(
    "changed", [{"views": 0}, {"views": "some"}, {"dtype": "float8"}, {"top_k": 0}, {"fill": "never"}, {"limit_gb": 0}]
)
def test_policy__names_the_key(changed: dict[str, Any]) -> None:
    ((key, value),) = changed.items()
    with pytest.raises(ValueError, match=rf"^cache\.{key}={value}: must be "):
        Policy(**{**ON, **changed})


def test_weights_hash__is_of_values_names_and_class() -> None:
    one, same, other = network(), network(), network(1)
    assert weights_hash(one) == weights_hash(same) != weights_hash(other)
    assert weights_hash(nn.Sequential(nn.Linear(2, 2))) != weights_hash(nn.Linear(2, 2))
    teacher = frozen([], precision="bf16")
    before = teacher.identity()
    teacher.to(torch.device("cpu"))
    assert teacher.identity() == before != frozen([]).identity()


def test_identity__a_teacher_that_does_not_say_cannot_be_cached() -> None:
    with pytest.raises(ValueError, match="set cache=off"):
        Teacher.identity(frozen([]))


def test_dataset_hash__is_of_the_source(tmp_path: Path) -> None:
    whole = split()
    part = whole.part(torch.arange(20), torch.zeros(20, dtype=torch.int64), ())
    assert part.source_size == 1700
    assert torch.equal(part.ids, whole.ids[:20])
    assert dataset_hash(part) == dataset_hash(whole)
    pixels = whole.images.clone()
    pixels[-1, 0, 0, 0] ^= 1
    assert dataset_hash(ArrayImages(pixels, whole.target)) != dataset_hash(whole)
    assert torch.equal(ArrayImages(pixels, torch.zeros(1700)).ids, torch.arange(1700))


def test_dataset_hash__of_files_is_of_names_and_sizes(tmp_path: Path) -> None:
    def folder(name: str, *contents: bytes) -> FileImages:
        paths = []
        for i, content in enumerate(contents):
            path = tmp_path / name / "cat" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            paths.append(str(path))
        target = torch.zeros(len(paths), dtype=torch.int64)
        return FileImages(PathSource(paths), target, (), 3, (8, 8), torch.arange(len(paths)))

    one = folder("a", b"12", b"345")
    assert (one.source_size, one.ids.tolist()) == (2, [0, 1])
    assert dataset_hash(one) == dataset_hash(folder("moved", b"12", b"345"))
    assert dataset_hash(one) != dataset_hash(folder("b", b"12", b"3456"))


def test_described__names_class_and_arguments() -> None:
    assert described(CropFlip(4, flip=True)) == "CropFlip(flip=True, padding=4)"
    assert described(None) == "none"
    assert "scale=[0.5, 1]" in described(ResizedCropFlip((0.5, 1), (1, 1), flip=True))
