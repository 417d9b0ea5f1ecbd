"""MedMNIST from npz files made here, the real one where it is there, and what can be wrong."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill.data.base import ImageData
from tests.data.test_base import counts, from_config

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "medmnist" / "pneumoniamnist_imbalanced.npz"


def arrays(channels: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    found = {}
    for name, n in (("train", 30), ("val", 10), ("test", 20)):
        shape = (n, 28, 28) if channels == 1 else (n, 28, 28, channels)
        found[f"{name}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
        found[f"{name}_labels"] = (np.arange(n, dtype=np.uint8) % 2)[:, None]
    return found


def made(file: Path, *overrides: str) -> ImageData:
    return from_config("dataset=medmnist", f"dataset.file={file}", "dataset.num_classes=2", *overrides)


@pytest.mark.parametrize("channels", [1, 3])
def test_read__images_and_labels_of_the_three_splits(tmp_path: Path, channels: int) -> None:
    content = arrays(channels)
    np.savez(tmp_path / "a.npz", **content)
    pixel = ",".join(["0.5"] * channels)
    colour = [f"dataset.channels={channels}", f"dataset.mean=[{pixel}]", f"dataset.std=[{pixel}]"]
    data = made(tmp_path / "a.npz", *colour)
    assert data.eval_names == ["val", "test"]
    for name, n in (("train", 30), ("val", 10), ("test", 20)):
        split = data.splits[name]
        pixels = split.gather(torch.arange(n)).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(pixels.reshape(content[f"{name}_images"].shape), content[f"{name}_images"])
        assert split.target.tolist() == content[f"{name}_labels"][:, 0].tolist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val_labels": None}, "has no val_labels, but train_images"),
        ({"test_images": np.zeros((20, 28, 28))}, r"test_images is float64 \(20, 28, 28\), not uint8 images"),
        ({"train_labels": np.zeros((30, 14), np.uint8)}, "one class for each of 30 images; .* several labels"),
        ({"train_labels": np.zeros((30, 1), np.uint8) + 2}, "set dataset.num_classes=3"),
    ],
)
def test_read__says_what_is_wrong(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **{k: v for k, v in {**arrays(), **changed}.items() if v is not None})
    with pytest.raises(ValueError, match=message):
        made(tmp_path / "a.npz").verify()


def test_read__no_npz(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="dataset.file=.*none.npz: no such file"):
        made(tmp_path / "none.npz").verify()
    np.savez(tmp_path / "half.npz", **arrays())
    (tmp_path / "half.npz").write_bytes((tmp_path / "half.npz").read_bytes()[:5000])
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("text")
    for name in ("half.npz", "plain.npy", "text.npz"):
        with pytest.raises(ValueError, match=f"dataset.file=.*{re.escape(name)}: "):
            made(tmp_path / name).verify()


@pytest.mark.skipif(not REAL.is_file(), reason="the real PneumoniaMNIST is not beside the repository")
def test_read__real_images() -> None:
    data = made(REAL)
    data.verify()
    assert {k: counts(v) for k, v in data.splits.items()} == {
        "train": [388, 3494], "val": [135, 389], "test": [234, 390],
    }  # fmt: skip
    with np.load(REAL, allow_pickle=False) as content:
        assert np.array_equal(data.splits["test"].gather(torch.tensor([7]))[0, 0].numpy(), content["test_images"][7])
