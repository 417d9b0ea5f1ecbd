"""Hub: any image classification dataset that the ``datasets`` library reads, from the hub or a local folder."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distill.data.base import FileImages, ImageData, Images
from distill.data.splits import divide


@dataclass(frozen=True)
class HubSource:
    """Encoded images in the rows of a dataset."""

    rows: Any
    column: str
    where: str

    @property
    def files(self) -> Sequence[str]:
        """The Arrow files that ``datasets`` keeps; none of rows that are in memory only."""
        return [file["filename"] for file in self.rows.cache_files]

    def __len__(self) -> int:
        return len(self.rows)

    def open(self, row: int) -> Image.Image:
        """Return the image of a row."""
        value = self.rows[row][self.column] or {}
        data = value.get("bytes")
        return Image.open(io.BytesIO(data) if data is not None else value.get("path") or io.BytesIO())

    def name(self, row: int) -> str:
        """Return dataset and split, the row and the column."""
        return f"{self.where}, row {row}, column {self.column}"

    def content(self) -> Iterator[bytes]:
        """Give the fingerprint that the ``datasets`` library keeps of files and everything done to them."""
        yield f"{self.column} {self.rows._fingerprint}".encode()


@dataclass(kw_only=True, eq=False, repr=False)
class Hub(ImageData):
    """A dataset of the Hugging Face hub.

    Args:
        path: name on the hub, such as ``uoft-cs/cifar10``, or a local folder that ``datasets`` can read.
        config_name: which of its configurations; None for the only or the default one.
        train_split: name of the split to train on.
        test_split: name of the split to test on; None sets ``test_fraction`` of the training split aside.
        val_split: name of a validation split; None holds ``val_fraction`` of the training split out.
        test_fraction: used where ``test_split`` is None.
        image_column: column with the images; None for the only one there is.
        label_column: column with the labels; None for the only class label, or the column ``label``.
    """

    path: str
    config_name: str | None
    train_split: str
    test_split: str | None
    val_split: str | None
    test_fraction: float
    image_column: str | None
    label_column: str | None

    @property
    def own_val(self) -> bool:
        return self.val_split is not None

    def verify(self) -> None:
        """Check a local folder; what comes from the network is left for the start of training."""
        if Path(self.path).expanduser().exists():
            super().verify()

    def read(self) -> tuple[Images, Images] | tuple[Images, Images, Images | None]:
        """Return the splits.

        Raises:
            FileNotFoundError: when the dataset cannot be loaded.
            ValueError: when a split or column does not exist or cannot be told.
        """
        if self.test_split is None and not 0 < self.test_fraction < 1:
            raise ValueError(
                f"dataset.test_fraction={self.test_fraction:g}: must be between 0 and 1 where test_split is null"
            )
        loaded = self._load()
        for key in ("train_split", "test_split", "val_split"):
            if getattr(self, key) not in (None, *loaded):
                raise ValueError(f"dataset.{key}={getattr(self, key)}: {self.path} has {', '.join(loaded)}; choose one")
        names = self._class_names(loaded[self.train_split])
        train: Images = self._split(self.train_split, loaded, names)
        val = None if self.val_split is None else self._split(self.val_split, loaded, names)
        if self.test_split is not None:
            return train, self._split(self.test_split, loaded, names), val
        test, train = divide(train, round(self.test_fraction * len(train)), self.split_seed + 2)
        return train, test, val

    def _load(self) -> Mapping[str, Any]:
        try:
            import datasets
        except ImportError as error:
            raise ValueError("dataset=hub needs the datasets library: pip install 'distill[hub]'") from error
        folder = Path(self.path).expanduser()
        try:
            if (folder / "dataset_dict.json").is_file():
                found = datasets.load_from_disk(str(folder))
            else:
                found = datasets.load_dataset(str(folder) if folder.exists() else self.path, self.config_name)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            reason = " ".join(str(error).split())[:300]
            raise FileNotFoundError(
                f"dataset.path={self.path}: cannot be loaded ({reason}); check the name, config_name and the network, "
                "or set it to a local folder"
            ) from error
        return dict(found)

    def _columns(self, features: Mapping[str, Any]) -> tuple[str, str]:
        """Return the image and the label column."""
        kinds = {name: type(feature).__name__ for name, feature in features.items()}
        images = [name for name, kind in kinds.items() if kind == "Image"]
        labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
        if not labels:
            labels = [name for name in ("label", "labels") if kinds.get(name) == "Value"]
        return self._one("image_column", self.image_column, images, kinds), self._one(
            "label_column", self.label_column, labels, kinds
        )

    def _one(self, key: str, given: str | None, found: list[str], kinds: Mapping[str, str]) -> str:
        if given is None and len(found) == 1:
            return found[0]
        if given in kinds:
            return str(given)
        columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        which = "does not exist" if given is not None else "cannot be told" if found else "is missing"
        raise ValueError(f"dataset.{key}={'null' if given is None else given}: {which}; set it to one of {columns}")

    def _class_names(self, rows: Any) -> list[str]:
        label = self._columns(rows.features)[1]
        feature = rows.features[label]
        if hasattr(feature, "names"):
            return list(feature.names)
        return sorted(set(rows[label])) if feature.dtype == "string" else []

    def _split(self, split: str, loaded: Mapping[str, Any], names: list[str]) -> FileImages:
        import datasets

        rows = loaded[split]
        image, label = self._columns(rows.features)
        if not isinstance(rows.features[image], datasets.Image):
            raise ValueError(f"dataset.image_column={image}: holds {rows.features[image]}, no images")
        where = f"{self.path}, {split}"
        encoded = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        target = _numbers(list(rows[label]), names, f"{where}, column {label}")
        source = HubSource(encoded, image, where)
        return FileImages(source, target, names, self.channels, self.image_size, torch.arange(len(target)))


def _numbers(labels: list[Any], names: list[str], where: str) -> Tensor:
    """Return labels as class indices ``(N,)``; words are looked up in the names of the training split."""
    number = {name: i for i, name in enumerate(names)}
    for row, value in enumerate(labels):
        if not isinstance(value, int) and value not in number:
            raise ValueError(f"{where}, row {row}: {value!r} is no class of the training split")
    return torch.tensor([v if isinstance(v, int) else number[v] for v in labels], dtype=torch.int64)
