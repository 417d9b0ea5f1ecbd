"""CIFAR-10 and CIFAR-100: from the hub's parquet, torchvision's folder, or a download."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from distill.data.base import ArrayImages, ImageData, Images
from distill.data.parquet import read_arrays, split_files

_SHAPE = (3, 32, 32)


@dataclass(kw_only=True, eq=False, repr=False)
class Cifar(ImageData):
    """What the two have in common; use :class:`Cifar10` or :class:`Cifar100`.

    Source: Krizhevsky (2009), Learning multiple layers of features from tiny images.

    Args:
        root: folder with parquet files as the hub has them (``train*.parquet``, ``test*.parquet``), or with the folder
            that torchvision makes.
        download: fetch the data with torchvision where ``root`` has neither.
    """

    root: str
    download: bool

    labels: ClassVar[tuple[str, ...]] = ("label",)
    builder: ClassVar[str] = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"

    def read(self) -> tuple[Images, Images]:
        """Return the two splits.

        Raises:
            FileNotFoundError: when the data are not there and cannot be fetched.
            ValueError: when files are damaged.
        """
        root = Path(self.root).expanduser()
        files = [split_files(root, split) for split in ("train", "test")]
        if all(files):
            train, test = (read_arrays(f, ("img", "image"), self.labels, _SHAPE) for f in files)
            return train, test
        if any(files):
            raise FileNotFoundError(f"dataset.root={root}: has parquet files of one split only, train or test")
        return self._torchvision(root, True), self._torchvision(root, False)

    @property
    def _there(self) -> bool:
        root = Path(self.root).expanduser()
        return bool(split_files(root, "train")) or (root / self.folder).is_dir()

    def verify(self) -> None:
        """Check the data where they are there; a download that is still to come is left for the start of training."""
        if self._there or not self.download:
            super().verify()

    def _torchvision(self, root: Path, train: bool) -> Images:
        if not self._there and not self.download:
            raise FileNotFoundError(
                f"dataset.root={root}: neither train*.parquet nor {self.folder} is there; set dataset.root to the "
                "folder that has them, or dataset.download=true"
            )
        from torchvision import datasets

        make = getattr(datasets, self.builder)
        try:
            # torchvision's files are pickles, which run code when read; it reads them only if their MD5 is the authors'
            data = make(str(root), train=train, download=self.download)
        except RuntimeError as error:
            raise ValueError(
                f"dataset.root={root}: files in {self.folder} are missing or differ from the authors' (MD5); "
                "delete the folder and set dataset.download=true"
            ) from error
        except OSError as error:
            raise FileNotFoundError(
                f"dataset.root={root}: no data there, and the download failed ({error}); connect to the network, or "
                "set dataset.root to a folder that has them"
            ) from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return ArrayImages(images, torch.tensor(data.targets, dtype=torch.int64), list(data.classes))


class Cifar10(Cifar):
    """50,000 training and 10,000 test images of 10 classes, 32x32, RGB."""


class Cifar100(Cifar):
    """50,000 training and 10,000 test images of 100 classes, 32x32, RGB."""

    labels = ("fine_label", "label")
    builder = "CIFAR100"
    folder = "cifar-100-python"
