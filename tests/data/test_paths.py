"""The ways to a batch (an array in memory, decoded once and mapped, decoded by workers) give the same samples."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.base import ImageData, Views
from distill.data.images import ArrayImages, FileImages
from distill.data.loader import TrainSampler
from distill.outputs import Batch
from tests.data.test_base import from_config

CLASSES = ("cat", "dog")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 2)):
        for name in CLASSES:
            (tmp_path / "files" / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 256, (14, 18, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "files" / split / name / f"{i:02d}.png")
    return tmp_path / "files"


def made(root: Path, resident_gb: float, workers: int, mix: str) -> ImageData:
    return from_config(
        "dataset=image_folder", f"dataset.root={root}", "dataset.num_classes=2", "dataset.image_size=[12,12]",
        "dataset.batch_size=8", "dataset.val_fraction=0", f"dataset.workers={workers}", "dataset/augment=randaugment",
        f"dataset/mix={mix}", f"dataset.resident_gb={resident_gb}", seed=5,
    )  # fmt: skip


def batches(data: ImageData) -> list[Batch]:
    return [batch for epoch in range(2) for batch in data.train_batches(epoch)]


def gathered(views: Views) -> Iterator[Batch]:
    sampler = TrainSampler(len(views), 8, 5)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for index in sampler.batches(0, len(sampler)):
            yield views.make(index, torch.full_like(index, epoch))


def equal(first: list[Batch], second: list[Batch]) -> bool:
    pairs = list(zip(first, second, strict=True))
    assert all(a.mix is not None and b.mix is not None for a, b in pairs)
    return all(torch.equal(x, y) for a, b in pairs for x, y in zip((*a[:4], *a.mix), (*b[:4], *b.mix), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["mixup", "cutmix", "either"])
def test_train_dataloader__gives_the_same_samples_whichever_way(root: Path, mix: str) -> None:
    mapped, decoding = made(root, 1, 0, mix), made(root, 0, 2, mix)
    files = decoding.splits["train"]
    assert isinstance(mapped.splits["train"], ArrayImages)
    assert isinstance(files, FileImages)
    in_memory = ArrayImages(files.gather(torch.arange(24)), files.target)
    views = Views(in_memory, mapped.augment, 5, mapped.mix)
    expected = list(gathered(views))
    assert len(expected) == 6
    assert {b.inputs.dtype for b in expected} == {torch.uint8 if mix == "cutmix" else torch.float32}
    assert equal(batches(mapped), expected)
    assert equal(batches(decoding), expected)
    assert equal(batches(made(root, 1, 2, mix)), expected)


def test_loader__evaluation_mixes_nothing(root: Path) -> None:
    data = made(root, 1, 0, "mixup")
    for loader in (data.loader("train"), *data.val_dataloader()):
        for batch in loader:
            assert batch.mix is None
            assert batch.inputs.dtype == torch.uint8
            assert batch.view.tolist() == [0] * len(batch.target)
