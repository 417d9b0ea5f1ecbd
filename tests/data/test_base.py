"""ImageData on data made up here, and the datasets that need no files: splits, checks, loaders."""

import inspect
import pickle
from typing import Any, get_type_hints

import pytest
import torch

from distill.config import build, compose, resolved
from distill.data.augment import CropFlip
from distill.data.base import ArrayImages, ImageData, Images
from distill.data.digits import Digits
from distill.data.images import Images as ImagesProtocol
from distill.data.splits import stratified
from distill.data.synthetic import Synthetic

ARGUMENTS: dict[str, Any] = {
    "num_classes": 4, "channels": 1, "image_size": [6, 5], "mean": [0.5], "std": [0.25], "batch_size": 8,
    "eval_batch_size": 16, "val_fraction": 0.25, "split_seed": 0, "train_size": None, "class_subset": None,
    "augment": None, "mix": None, "resident_gb": 2.0, "workers": 0, "seed": 0,
}  # fmt: skip


def split(n: int, classes: int = 4, names: tuple[str, ...] = ("a", "b", "c", "d")) -> ArrayImages:
    target = torch.arange(n) % classes
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 6, 5).clone()
    return ArrayImages(images, target, names)


class Made(ImageData):
    train, test = split(80), split(40)

    def read(self) -> tuple[Images, Images]:
        return self.train, self.test


def made(**changed: Any) -> Made:
    return Made(**{**ARGUMENTS, **changed})


def from_config(*overrides: str, seed: int = 0) -> ImageData:
    data: ImageData = build(resolved(compose(list(overrides)))["dataset"], "dataset", partial=True)(seed=seed)
    return data


def counts(images: ImagesProtocol) -> list[int]:
    return torch.bincount(images.target).tolist()


def test_stratified__takes_the_count_and_the_same_share_of_each_class() -> None:
    target = torch.tensor([0] * 50 + [1] * 31 + [2] * 7)
    key = torch.rand(88, generator=torch.Generator().manual_seed(0))
    for count in (0, 3, 17, 44, 88):
        taken = stratified(target, count, key)
        assert int(taken.sum()) == count
        for label, size in ((0, 50), (1, 31), (2, 7)):
            mine = taken[target == label]
            assert abs(int(mine.sum()) - size * count / 88) < 1
            best = key[target == label].argsort()[: int(mine.sum())]
            assert set(mine.nonzero()[:, 0].tolist()) == set(best.tolist())


def test_image_data__holds_out_evenly_and_whatever_the_seed() -> None:
    data = made()
    assert {k: counts(v) for k, v in data.splits.items()} == {"train": [15] * 4, "val": [5] * 4, "test": [10] * 4}
    held = [set(made(seed=s).splits["val"].gather(torch.arange(20))[:, 0, 0, 0].tolist()) for s in (0, 1)]
    assert held[0] == held[1]
    assert held[0] != set(made(split_seed=1).splits["val"].gather(torch.arange(20))[:, 0, 0, 0].tolist())
    kept = set(data.splits["train"].gather(torch.arange(60))[:, 0, 0, 0].tolist())
    assert kept | held[0] == set(range(80))


def test_image_data__train_size_includes_what_is_held_out() -> None:
    assert {k: len(v) for k, v in made(train_size=40).splits.items()} == {"train": 30, "val": 10, "test": 40}
    assert {k: len(v) for k, v in made(train_size=40, val_fraction=0).splits.items()} == {"train": 40, "test": 40}


@pytest.mark.parametrize(("subset", "names"), [(2, ["a", "b"]), ([3, 1], ["d", "b"])])
def test_image_data__class_subset_renumbers(subset: int | list[int], names: list[str]) -> None:
    data = made(class_subset=subset, num_classes=2)
    assert data.classes == names
    train = data.splits["train"]
    pixels = train.gather(torch.arange(len(train)))[:, 0, 0, 0]
    kept = [0, 1] if subset == 2 else [3, 1]
    assert [kept[t] for t in train.target.tolist()] == [int(p) % 4 for p in pixels]
    assert len(train) == 30


def test_image_data__loaders_have_the_order_names_and_pixels_of_the_splits() -> None:
    data = made(augment=CropFlip(1, flip=True))
    assert data.eval_names == ["val", "test"]
    assert made(val_fraction=0).eval_names == ["test"]
    for name, loader in zip(data.eval_names, data.val_dataloader(), strict=True):
        assert torch.cat([b.index for b in loader]).tolist() == list(range(len(data.splits[name])))
    batch = next(iter(data.loader("train")))
    assert torch.equal(batch.inputs, data.splits["train"].gather(batch.index))
    trained = next(data.train_batches())
    assert not torch.equal(trained.inputs, data.splits["train"].gather(trained.index))
    assert trained.target.tolist() == data.splits["train"].target[trained.index].tolist()


def test_image_data__is_known_without_reading() -> None:
    class Unread(ImageData):
        def read(self) -> tuple[Images, Images]:
            raise AssertionError("read")

    data = Unread(**ARGUMENTS)
    assert (data.num_classes, data.channels, data.image_size, data.mean) == (4, 1, (6, 5), (0.5,))
    assert data.eval_names == ["val", "test"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_classes": 5}, "dataset.num_classes=5, but the train split has 4 classes: set dataset.num_classes=4"),
        ({"num_classes": 3}, "dataset.num_classes=3, .* set dataset.num_classes=4"),
        ({"image_size": [5, 6]}, r"set dataset.channels=1 dataset.image_size=\[6,5\]"),
        ({"channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}, "set dataset.channels=1"),
        ({"channels": 2}, "dataset.channels=2: must be 1 .* or 3"),
        ({"mean": [0.5, 0.5]}, r"dataset.mean=\[0.5, 0.5\]: must be one number a channel, 1"),
        ({"image_size": [6]}, r"dataset.image_size=\[6\]: must be \[height, width\]"),
        ({"batch_size": 0}, "dataset.batch_size=0: must be at least 1"),
        ({"val_fraction": 1.0}, r"dataset.val_fraction=1: must be in \[0, 1\)"),
        ({"val_fraction": 0.001}, "leaves 80 training and 0 validation"),
        ({"train_size": 3}, "dataset.train_size=3: must be between 4, .* and the 80 training images"),
        ({"train_size": 81}, "dataset.train_size=81"),
        ({"class_subset": [1, 1]}, r"dataset.class_subset=\[1, 1\]: must be .* of the 4"),
        ({"class_subset": 5}, "dataset.class_subset=5"),
        ({"class_subset": 2}, "dataset.num_classes=4, but the train split has 2 classes: set dataset.num_classes=2"),
    ],
)
def test_image_data__names_the_key_that_is_wrong(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changed).verify()


def test_image_data__names_empty_splits_classes_and_missing_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        ("train", split(0), "the train split has no image"),
        ("test", split(0), "the test split has no image"),
        ("train", split(80, classes=3), r"1 of 4 classes have no training image \(d\)"),
        ("test", ArrayImages(split(4).images, torch.tensor([0, 1, -1, 2])), "the test split has label -1"),
    ]
    for name, images, message in cases:
        with monkeypatch.context() as patch:
            patch.setattr(Made, name, images)
            with pytest.raises(ValueError, match=message):
                made().verify()


def test_image_data__loader_lists_the_splits_there_are() -> None:
    with pytest.raises(ValueError, match="split 'dev' does not exist; choose one of train, val, test"):
        made().loader("dev")


@pytest.mark.parametrize("target", [Digits, Synthetic])
def test_image_data__signature_is_the_schema(target: type[ImageData]) -> None:
    hints = get_type_hints(target.__init__)
    for name, parameter in inspect.signature(target).parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert name in hints


def test_digits__are_the_real_images_split_once() -> None:
    few = from_config("dataset=digits")
    assert {k: counts(v) for k, v in few.splits.items() if k != "test"} == {"train": [12] * 10, "val": [4] * 10}
    data = from_config("dataset=digits", "dataset.train_size=null")
    assert {k: len(v) for k, v in data.splits.items()} == {"train": 900, "val": 300, "test": 597}
    assert min(counts(data.splits["test"])) == 58
    assert data.classes == [str(i) for i in range(10)]
    every = torch.cat([v.gather(torch.arange(len(v))) for v in data.splits.values()])
    assert every.unique().tolist() == [round(i * 255 / 16) for i in range(17)]
    pixels = every.double() / 255
    assert pixels.mean().item() == pytest.approx(data.mean[0], abs=2e-4)
    assert pixels.std().item() == pytest.approx(data.std[0], abs=2e-4)


def test_synthetic__is_deterministic_and_learnable() -> None:
    data, again = from_config("dataset=synthetic"), from_config("dataset=synthetic", seed=7)
    train, test = data.splits["train"], data.splits["test"]
    x, t = (s.gather(torch.arange(len(s))).double().flatten(1) for s in (train, test))
    assert torch.equal(test.gather(torch.arange(9)), again.splits["test"].gather(torch.arange(9)))
    means = torch.stack([x[train.target == k].mean(0) for k in range(10)])
    right = torch.cdist(t, means).argmin(1) == test.target
    assert right.double().mean() > 0.95


def test_views__can_be_sent_to_a_worker_process() -> None:
    data = from_config("dataset=digits").train_dataloader().dataset
    copy = pickle.loads(pickle.dumps(data))
    keys = [(3, 1), (5, 1)]
    assert torch.equal(copy.__getitems__(keys).inputs, data.__getitems__(keys).inputs)  # type: ignore[attr-defined]
