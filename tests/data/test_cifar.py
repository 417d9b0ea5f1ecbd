"""CIFAR from parquet (real images where they are there), from torchvision's folder, and what can be wrong."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision import datasets

from distill.config import compose, resolved
from distill.data import decoded as decoded_module
from distill.data.base import ImageData
from distill.data.cifar import Cifar10
from distill.data.cifar_names import COARSE, KINDS
from distill.data.parquet import read_arrays, split_files
from distill.fit import identity
from tests.data.test_base import counts, from_config

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar100"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real CIFAR-100 is not beside the repository")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def write(
    path: Path, n: int = 40, image: str = "img", label: str = "label", seed: int = 0, classes: int = 10
) -> np.ndarray:
    arrays = pixels(n, seed)
    column = pa.array([{"bytes": png(a), "path": None} for a in arrays], IMAGE)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table({image: column, label: pa.array([i % classes for i in range(n)], pa.int64())}), path, row_group_size=16
    )
    return arrays


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, n, seed in (
        ("train-00000-of-00002", 30, 0),
        ("train-00001-of-00002", 20, 1),
        ("test-00000-of-00001", 20, 2),
    ):
        write(tmp_path / "c10" / "plain_text" / f"{name}.parquet", n, seed=seed)
    return tmp_path / "c10"


def cifar10(root: Path, *overrides: str) -> ImageData:
    return from_config("dataset=cifar10", f"dataset.root={root}", "dataset.download=false", *overrides)


def test_read__parquet_in_several_files(root: Path) -> None:
    data = cifar10(root, "dataset.val_fraction=0")
    data.verify()
    expected = np.concatenate([pixels(30, 0), pixels(20, 1)]).transpose(0, 3, 1, 2)
    train = data.splits["train"]
    assert np.array_equal(train.gather(torch.arange(50)).numpy(), expected)
    assert train.target.tolist() == [i % 10 for i in range(30)] + [i % 10 for i in range(20)]
    assert len(data.splits["test"]) == 20


def test_decoded__second_start_decodes_nothing(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cifar10(root).splits["train"].gather(torch.arange(9))

    def refuse(*_: Any) -> torch.Tensor:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patch:
        patch.setattr(decoded_module, "decode", refuse)
        assert torch.equal(cifar10(root).splits["train"].gather(torch.arange(9)), first)
    assert sorted(p.suffix for p in cache.iterdir()) == [".npy", ".npy"]


def test_decoded__changed_file_and_damaged_cache_are_decoded_again(root: Path, cache: Path) -> None:
    cifar10(root).verify()
    path = next(root.rglob("test*.parquet"))
    write(path, 20, seed=5)
    expected = torch.from_numpy(pixels(20, 5)).permute(0, 3, 1, 2)
    assert torch.equal(cifar10(root).splits["test"].gather(torch.arange(20)), expected)
    for made in cache.iterdir():
        made.write_bytes(made.read_bytes()[:1000])
    assert torch.equal(cifar10(root).splits["test"].gather(torch.arange(20)), expected)


def test_decoded__without_a_cache_folder_still_reads(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DISTILL_CACHE", str(tmp_path / "file" / "below"))
    expected = torch.from_numpy(pixels(20, 2)).permute(0, 3, 1, 2)
    assert torch.equal(cifar10(root).splits["test"].gather(torch.arange(20)), expected)


def test_decoded__a_failure_leaves_nothing_behind(root: Path, cache: Path) -> None:
    path = next(root.rglob("test*.parquet"))
    column = pa.array([{"bytes": png(a), "path": None} for a in pixels(3)] + [{"bytes": b"no image", "path": None}])
    pq.write_table(pa.table({"img": column, "label": [0, 1, 2, 3]}), path)
    with pytest.raises(ValueError, match=r"test-00000-of-00001.parquet, row 3, column img: cannot be decoded"):
        cifar10(root).verify()
    assert len(list(cache.iterdir())) == 1  # the training images


def test_read__corrupt_image_is_named_in_its_own_file(root: Path) -> None:
    path = root / "plain_text" / "train-00001-of-00002.parquet"
    half = png(pixels(1)[0])[:700]
    column = pa.array([{"bytes": png(a), "path": None} for a in pixels(2)] + [{"bytes": half, "path": None}])
    pq.write_table(pa.table({"img": column, "label": [0, 1, 2]}), path)
    with pytest.raises(ValueError, match=r"train-00001-of-00002.parquet, row 2, column img: cannot"):
        cifar10(root).verify()


def _delete(name: str) -> Callable[[Path], object]:
    return lambda root: next(root.rglob(name)).unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_delete("train-00001*"), FileNotFoundError, "file 00001 of the train split is missing; there is train-00000"),
        (_delete("test-*"), FileNotFoundError, "parquet files of one split only"),
        (
            lambda r: next(r.rglob("test-*")).write_bytes(b"text"),
            ValueError,
            "test-00000-of-00001.parquet: not a parquet file",
        ),
        (
            lambda r: write(next(r.rglob("test-*")), image="pic"),
            ValueError,
            "no image column; img or image must .* is pic, label",
        ),
        (
            lambda r: write(next(r.rglob("test-*")), label="y"),
            ValueError,
            "no label column; label must hold integers, .* img, y",
        ),
        (lambda r: write(next(r.rglob("train-00001*")), classes=12), ValueError, "set dataset.num_classes=12"),
        (lambda r: write(next(r.rglob("test-*")), n=0), ValueError, "the test split has no image"),
    ],
)
def test_read__says_what_is_wrong(
    root: Path, damage: Callable[[Path], object], error: type[Exception], message: str
) -> None:
    damage(root)
    with pytest.raises(error, match=message):
        cifar10(root).verify()


def test_read__nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"empty: neither train\*.parquet nor cifar-10-batches-py"):
        cifar10(tmp_path / "empty").verify()


def test_verify__leaves_a_download_for_later(tmp_path: Path) -> None:
    from_config("dataset=cifar10", f"dataset.root={tmp_path}").verify()
    assert not list(tmp_path.iterdir())


def test_read__failed_download_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(datasets.CIFAR10, "download", offline)
    with pytest.raises(FileNotFoundError, match=r"download failed \(Name or service not known\); connect"):
        from_config("dataset=cifar10", f"dataset.root={tmp_path}").prepare_data()


def torchvision_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    arrays = pixels(60)
    rows = arrays.transpose(0, 3, 1, 2).reshape(60, -1)
    names = {"label_names": [f"class{i}" for i in range(10)]}
    parts: dict[str, Any] = {f"data_batch_{i + 1}": slice(10 * i, 10 * i + 10) for i in range(5)} | {
        "test_batch": slice(50, 60)
    }
    sums = {}
    for name, part in [*parts.items(), ("batches.meta", None)]:
        entry = names if part is None else {"data": rows[part], "labels": list(range(10))}
        (folder / name).write_bytes(pickle.dumps(entry))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[n, sums[n]] for n in list(parts)[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    )
    return arrays


def test_read__torchvision_folder_and_its_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = torchvision_folder(tmp_path, monkeypatch)
    data = cifar10(tmp_path, "dataset.val_fraction=0")
    assert data.classes == [f"class{i}" for i in range(10)]
    assert np.array_equal(data.splits["train"].gather(torch.arange(50)).numpy(), arrays[:50].transpose(0, 3, 1, 2))
    assert data.splits["test"].target.tolist() == list(range(10))

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="missing or differ from the authors' .MD5.; delete the folder"):
        cifar10(tmp_path).verify()
    assert not (tmp_path / "ran").exists()


def test_cifar10__is_what_the_yaml_names(root: Path) -> None:
    assert isinstance(cifar10(root), Cifar10)


@real
def test_read__real_images(tmp_path: Path) -> None:
    (source,) = split_files(REAL, "test")
    some = pq.read_table(source).slice(0, 64)
    pq.write_table(some, tmp_path / "test-00000-of-00001.parquet")
    split = read_arrays(split_files(tmp_path, "test"), ["img"], ["fine_label"], (3, 32, 32))
    assert split.classes[:2] == ["apple", "aquarium_fish"]
    for row in (0, 63):
        image = Image.open(io.BytesIO(some.column("img")[row].as_py()["bytes"])).convert("RGB")
        assert np.array_equal(split.images[row].permute(1, 2, 0).numpy(), np.asarray(image))
        assert split.target[row] == some.column("fine_label")[row].as_py()


@real
@pytest.mark.slow
def test_cifar100__real_counts_and_the_statistics_of_the_yaml() -> None:
    data = from_config("dataset=cifar100", f"dataset.root={REAL}", "dataset.val_fraction=0")
    train, test = data.splits["train"], data.splits["test"]
    assert (counts(train), counts(test)) == ([500] * 100, [100] * 100)
    x = train.gather(torch.arange(0, 50_000, 5)).float() / 255
    assert x.mean((0, 2, 3)).tolist() == pytest.approx(data.mean, abs=4e-3)
    assert x.std((0, 2, 3)).tolist() == pytest.approx(data.std, abs=4e-3)
    small = from_config(
        "dataset=cifar100",
        f"dataset.root={REAL}",
        "dataset.class_subset=10",
        "dataset.num_classes=10",
        "dataset.train_size=500",
    )
    assert [len(s) for s in small.splits.values()] == [450, 50, 1000]
    assert small.classes == data.classes[:10]


def named(root: Path, names: list[str]) -> Path:
    """Write two splits whose files name their classes, as the hub's do."""
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for split in ("train", "test"):
        path = root / f"{split}-00000-of-00001.parquet"
        write(path, 20, classes=len(names))
        pq.write_table(pq.read_table(path).replace_schema_metadata(about), path)
    return root


CREATURES = ["apple", "maple_tree", "otter", "ray", "woman"]


def test_captions__are_made_from_fine_and_coarse_names(tmp_path: Path) -> None:
    root, few = named(tmp_path, CREATURES), ["dataset.num_classes=5", "dataset.val_fraction=0.2"]
    data = from_config("dataset=cifar100", f"dataset.root={root}", "dataset.captions=true", *few)
    splits = data.splits
    assert data.texts[:3] == (
        "a photo of an apple", "a photo of an apple, a kind of fruit or vegetable", "fruit or vegetable: an apple",
    )  # fmt: skip
    assert "a photo of a maple tree, a kind of tree" in data.texts
    for split in splits.values():
        assert split.notes.text is not None
        for target, rows in zip(split.target.tolist(), split.notes.text.tolist(), strict=True):
            assert rows == list(range(4 * target, 4 * target + 4))
            assert all(CREATURES[target].replace("_", " ") in data.texts[row] for row in rows)
    batch = next(iter(data.train_batches()))
    assert batch.text is not None
    assert torch.equal(batch.text // 4, batch.target)
    own = from_config("dataset=cifar100", f"dataset.root={root}", "dataset.captions=['some {coarse}']", *few)
    assert len(own.splits["train"].notes.text[0]) == 1
    assert own.texts[3] == "some fish"


def test_captions__cifar10_has_names_only(tmp_path: Path) -> None:
    root = named(tmp_path, ["airplane", "cat"])
    more = ["dataset.num_classes=2", "dataset.captions=['an {fine}, a {fine}']"]
    assert cifar10(root, *more).texts == ("an airplane, an airplane", "an cat, a cat")
    assert cifar10(root, "dataset.num_classes=2").texts == ()


@pytest.mark.parametrize(
    "captions, message",
    [
        ("[]", r"dataset.captions=\[\]: has no template; give one, such as 'a photo of a \{fine\}'"),
        ("['a photo']", r"template 'a photo' must have \{fine\}, and nothing else in braces"),
        ("['a {coarse}']", r"template 'a \{coarse\}' must have \{fine\}, and nothing else"),
        ("['a {']", r"template 'a \{' must have"),
        ("true", "dataset.captions: the files do not name the classes; set it to false"),
    ],
)
def test_captions__say_what_is_wrong(root: Path, captions: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cifar10(root, f"dataset.captions={captions}").verify()


def test_captions__a_class_that_is_not_of_cifar100(tmp_path: Path) -> None:
    root = named(tmp_path, ["apple", "unicorn"])
    with pytest.raises(ValueError, match="class unicorn is none of CIFAR-100"):
        from_config(
            "dataset=cifar100", f"dataset.root={root}", "dataset.num_classes=2", "dataset.captions=true"
        ).verify()


def test_identity__of_a_run_without_captions_is_what_it_was(root: Path) -> None:
    cfg = resolved(compose(["dataset=cifar10", "student=resnet8", "teacher=[]", f"dataset.root={root}"]))
    before = identity(cfg)["dataset"]
    assert "captions" not in before
    assert identity({**cfg, "dataset": {**cfg["dataset"], "captions": True}})["dataset"] == {**before, "captions": True}


@real
def test_coarse__is_that_of_the_real_files() -> None:
    (file,) = split_files(REAL, "test")
    table = pq.read_table(file, columns=["fine_label", "coarse_label"])
    names = json.loads(pq.ParquetFile(file).schema_arrow.metadata[b"huggingface"])["info"]["features"]
    assert sorted(COARSE) == names["fine_label"]["names"]
    for fine, coarse in {(row["fine_label"], row["coarse_label"]) for row in table.to_pylist()}:
        assert list(KINDS).index(COARSE[names["fine_label"]["names"][fine]]) == coarse
