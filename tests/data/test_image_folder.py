"""Images in folders: layouts, decoding, workers, and what can be wrong."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.base import ImageData
from distill.data.image_folder import PathSource
from distill.data.images import ArrayImages, FileImages
from tests.data.test_base import counts, from_config


def fill(folder: Path, n: int, size: tuple[int, int] = (12, 10), suffix: str = ".png") -> None:
    """Write n images whose grey value is their number, twenty times over."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", size, (20 * i,) * 3).save(folder / f"{i:02d}{suffix}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / ".cache"))
    return tmp_path / ".cache"


def made(root: Path, *overrides: str) -> ImageData:
    settings = ["dataset.num_classes=2", "dataset.image_size=[8,8]", "dataset.workers=0", "student=digits_tiny"]
    return from_config("dataset=image_folder", f"dataset.root={root}", *settings, *overrides)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, n in (("train", 10), ("test", 4)):
        fill(tmp_path / split / "cat", n)
        fill(tmp_path / split / "dog" / "deeper", n, suffix=".JPG")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / ".hidden").mkdir()
    return tmp_path


def test_read__train_and_test_folders(root: Path) -> None:
    data = made(root)
    data.verify()
    assert data.classes == ["cat", "dog"]
    assert {k: counts(v) for k, v in data.splits.items()} == {"train": [9, 9], "val": [1, 1], "test": [4, 4]}
    test = data.splits["test"].gather(torch.arange(4))
    assert test[:, 0, 4, 4].tolist() == [0, 20, 40, 60]
    assert test.shape == (4, 3, 8, 8)


def test_read__a_val_folder_is_the_validation_split_or_else_the_test_split(root: Path) -> None:
    for name in ("cat", "dog"):
        fill(root / "val" / name, 3)
    data = made(root)
    assert data.eval_names == made(root, "dataset.val_fraction=0").eval_names == ["val", "test"]
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 20, "val": 6, "test": 8}
    (root / "test").rename(root / "unused")
    data = made(root, "dataset.val_fraction=0")
    assert data.eval_names == ["test"]
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 20, "test": 6}


def test_read__class_folders_alone_are_split_evenly(root: Path) -> None:
    data = made(root / "train", "dataset.val_fraction=0", "dataset.test_fraction=0.3", "dataset.resident_gb=0")
    assert {k: counts(v) for k, v in data.splits.items()} == {"train": [7, 7], "test": [3, 3]}
    files = [{s.source.paths[r] for r in s.rows} for s in data.splits.values() if isinstance(s, FileImages)]
    assert not files[0] & files[1]


def test_gather__resizes_to_cover_and_crops_the_centre(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(image).save(tmp_path / split / name / "0.png")
    exact = made(tmp_path, "dataset.image_size=[12,24]", "dataset.val_fraction=0").splits["test"]
    assert np.array_equal(exact.gather(torch.tensor([0]))[0].permute(1, 2, 0).numpy(), image)
    half = made(tmp_path, "dataset.image_size=[6,6]", "dataset.val_fraction=0").splits["test"].gather(torch.tensor([0]))
    expected = np.asarray(Image.fromarray(image).resize((12, 6), Image.Resampling.BILINEAR))[:, 3:9]
    assert np.array_equal(half[0].permute(1, 2, 0).numpy(), expected)
    grey = made(
        tmp_path, "dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.5]", "dataset.image_size=[12,24]",
        "dataset.val_fraction=0",
    )  # fmt: skip
    pixels = grey.splits["test"].gather(torch.tensor([0]))
    assert np.array_equal(pixels[0, 0].numpy(), np.asarray(Image.fromarray(image).convert("L")))


def test_splits__are_decoded_once_where_they_fit(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = made(root, "dataset.resident_gb=0").splits
    assert all(isinstance(split, FileImages) for split in later.values())
    assert not cache.exists()
    bytes_of_train = 20 * 3 * 8 * 8
    some = made(root, f"dataset.resident_gb={(bytes_of_train - 1) / 1e9}").splits
    assert [type(split) for split in some.values()] == [FileImages, FileImages, ArrayImages]
    first = made(root).splits
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == 2
    with monkeypatch.context() as patch:
        patch.setattr(PathSource, "open", lambda *_: pytest.fail("decoded twice"))
        for splits in (first, made(root).splits):
            assert all(isinstance(split, ArrayImages) for split in splits.values())
            for name, split in splits.items():
                assert split.target.tolist() == later[name].target.tolist()
    for name, split in later.items():
        assert torch.equal(split.gather(torch.arange(len(split))), first[name].gather(torch.arange(len(split))))
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files
    Image.new("RGB", (12, 10), (255, 0, 0)).save(root / "test" / "cat" / "00.png")
    changed = made(root).splits["test"]
    assert changed.gather(torch.tensor([0]))[0, :, 4, 4].tolist() == [255, 0, 0]
    assert len(list(cache.iterdir())) == 3


def test_splits__of_one_folder_share_what_is_decoded(root: Path, cache: Path) -> None:
    settings = ("dataset.val_fraction=0", "dataset.test_fraction=0.3")
    once, later = (made(root / "train", *settings, f"dataset.resident_gb={gb}").splits for gb in (1, 0))
    assert len(list(cache.iterdir())) == 1
    for name, split in later.items():
        index = torch.arange(len(split))
        assert torch.equal(split.gather(index), once[name].gather(index))


def test_train_dataloader__workers_make_the_same_batches(root: Path) -> None:
    here, there = (
        made(root, f"dataset.workers={n}", "dataset.batch_size=5", "dataset.resident_gb=0").train_batches()
        for n in (0, 2)
    )
    for a, b in zip(here, there, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a[:4], b[:4], strict=True))


@pytest.mark.parametrize("resident", [0, 1])
@pytest.mark.parametrize("content", [b"", b"text", None], ids=["empty", "text", "half"])
def test_verify__names_a_corrupt_image(root: Path, content: bytes | None, resident: int) -> None:
    path = root / "train" / "cat" / "03.png"
    noise = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(ValueError, match=r"cat/03.png: cannot be decoded \(.*\); replace or delete it"):
        made(root, f"dataset.resident_gb={resident}").verify()


def test_verify__looks_at_an_even_sample_of_many(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileImages, "LOOKED_AT", 5)
    looked_at: list[int] = []
    original = FileImages._decode

    def count(self: FileImages, row: int) -> torch.Tensor:
        looked_at.append(row)
        return original(self, row)

    monkeypatch.setattr(FileImages, "_decode", count)
    made(root, "dataset.val_fraction=0", "dataset.resident_gb=0").splits["train"].verify()
    assert sorted(looked_at) == [0, 4, 8, 12, 16]


def test_read__says_what_is_wrong(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"dataset.root=.*nowhere: no such folder"):
        made(tmp_path / "nowhere").verify()
    with pytest.raises(ValueError, match="set dataset.num_classes=2"):
        made(root, "dataset.num_classes=3").verify()
    with pytest.raises(ValueError, match="dataset.test_fraction=0: must be between 0 and 1"):
        made(root / "train", "dataset.test_fraction=0").verify()
    fill(root / "test" / "horse", 1)
    with pytest.raises(ValueError, match=r"class folder horse is not in train/"):
        made(root).verify()
    (root / "train" / "horse").mkdir()
    with pytest.raises(ValueError, match=r"1 of 3 classes have no training image \(horse\)"):
        made(root, "dataset.num_classes=3").splits  # noqa: B018
    (root / "test").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="has train/ but neither test/ nor val/"):
        made(root).verify()
    (root / "none").mkdir()
    with pytest.raises(FileNotFoundError, match="has no class folders"):
        made(root / "none").verify()
