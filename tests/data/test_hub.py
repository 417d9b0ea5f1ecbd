"""Datasets of the hub from local folders: columns, splits, labels, and what can be wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.base import ImageData
from distill.data.decoded import resident
from distill.data.hub import HubSource
from distill.data.images import ArrayImages, FileImages
from tests.data.test_base import counts, from_config

datasets = pytest.importorskip("datasets", reason="the extra distill[hub] is not installed")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "decoded"))
    datasets.disable_progress_bars()


def images(n: int) -> list[Image.Image]:
    values = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(v) for v in values]


def table(n: int, label: Any, values: list[Any] | None = None, image: str = "picture") -> Any:
    labels = values or [i % 3 for i in range(n)]
    features = datasets.Features({image: datasets.Image(), "kind": label, "id": datasets.Value("int64")})
    return datasets.Dataset.from_dict({image: images(n), "kind": labels, "id": list(range(n))}, features)


CLASSES = datasets.ClassLabel(names=["x", "y", "z"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    splits = {"train": table(30, CLASSES), "validation": table(6, CLASSES), "test": table(9, CLASSES)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def made(path: object, *overrides: str) -> ImageData:
    settings = ["dataset.num_classes=3", "dataset.image_size=[8,8]", "dataset.workers=0", "student=digits_tiny"]
    return from_config("dataset=hub", f"dataset.path={path}", *settings, *overrides)


def test_read__finds_image_and_label_column(folder: Path) -> None:
    data = made(folder)
    data.verify()
    assert data.classes == ["x", "y", "z"]
    assert {k: counts(v) for k, v in data.splits.items()} == {"train": [9] * 3, "val": [1] * 3, "test": [3] * 3}
    got = data.splits["test"].gather(torch.arange(9)).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(got, np.stack([np.asarray(i) for i in images(9)]))


def test_splits__are_decoded_once_where_they_fit(folder: Path, tmp_path: Path) -> None:
    once, again, later = (made(folder, f"dataset.resident_gb={gb}").splits for gb in (1, 1, 0))
    assert len(list((tmp_path / "decoded").iterdir())) == 2
    for name, split in later.items():
        assert isinstance(split, FileImages)
        index = torch.arange(len(split))
        assert torch.equal(once[name].gather(index), split.gather(index))
        assert torch.equal(again[name].gather(index), split.gather(index))


def test_splits__of_rows_in_memory_are_decoded_and_not_kept(tmp_path: Path) -> None:
    source = HubSource(table(9, CLASSES).cast_column("picture", datasets.Image(decode=False)), "picture", "made here")
    split = FileImages(source, torch.arange(9) % 3, (), 3, (8, 8), torch.arange(9))
    once = resident(split, 1e9)
    assert isinstance(once, ArrayImages)
    assert torch.equal(once.gather(torch.arange(9)), split.gather(torch.arange(9)))
    assert not (tmp_path / "decoded").exists()


def test_read__named_splits(folder: Path) -> None:
    data = made(folder, "dataset.val_split=validation", "dataset.val_fraction=0")
    assert data.eval_names == ["val", "test"]
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 30, "val": 6, "test": 9}
    data = made(folder, "dataset.test_split=null", "dataset.test_fraction=0.2", "dataset.val_fraction=0")
    assert {k: counts(v) for k, v in data.splits.items()} == {"train": [8] * 3, "test": [2] * 3}


def test_read__folder_of_parquet_files_and_labels_as_words(tmp_path: Path) -> None:
    words = [["dog", "cat", "ant"][i % 3] for i in range(12)]
    for split in ("train", "test"):
        table(12, datasets.Value("string"), words).to_parquet(tmp_path / "words" / f"{split}-00000-of-00001.parquet")
    data = made(tmp_path / "words", "dataset.label_column=kind", "dataset.val_fraction=0")
    assert data.classes == ["ant", "cat", "dog"]
    assert [data.classes[i] for i in data.splits["test"].target.tolist()] == words


def test_train_dataloader__workers_make_the_same_batches(folder: Path) -> None:
    here, there = (made(folder, f"dataset.workers={n}", "dataset.batch_size=8").train_batches() for n in (0, 2))
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dataset.label_column=kin",
            r"dataset.label_column=kin: does not exist; set it to one of picture \(Image\), kind",
        ),
        ("dataset.image_column=id", "dataset.image_column=id: holds .*, no images"),
        ("dataset.test_split=dev", "dataset.test_split=dev: .* has train, validation, test; choose one"),
        ("dataset.num_classes=2", "set dataset.num_classes=3"),
    ],
)
def test_read__says_what_is_wrong(folder: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(folder, override).verify()


def test_read__columns_that_cannot_be_told(tmp_path: Path) -> None:
    rows = table(9, CLASSES)
    two = rows.add_column("other", [0] * 9).cast_column("other", CLASSES)
    none = table(9, datasets.Value("int64"))
    for name, data, message in (("two", two, "label_column=null: cannot be told"), ("none", none, "is missing")):
        datasets.DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            made(tmp_path / name).verify()


def test_verify__names_a_corrupt_image(tmp_path: Path) -> None:
    rows = table(9, CLASSES).cast_column("picture", datasets.Image(decode=False))
    broken = rows.map(lambda row, i: {"picture": {"bytes": b"no", "path": None}} if i == 4 else row, with_indices=True)
    broken = broken.cast_column("picture", datasets.Image())
    datasets.DatasetDict({"train": broken, "test": table(9, CLASSES)}).save_to_disk(tmp_path / "broken")
    with pytest.raises(ValueError, match=r"broken, train, row 4, column picture: cannot be decoded"):
        made(tmp_path / "broken").verify()


def test_read__an_unknown_name_is_one_sentence(tmp_path: Path) -> None:
    data = made("nobody/nothing-of-this-name")
    data.verify()  # what comes from the network is not fetched by a check
    with pytest.raises(
        FileNotFoundError, match=r"dataset.path=nobody/nothing-of-this-name: cannot be loaded \(.*network"
    ):
        data.prepare_data()
