"""CIFAR-10 and CIFAR-100: from the hub's parquet, torchvision's folder, or a download."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from distill.data.base import ArrayImages, ImageData, Images
from distill.data.captions import article, check_templates, spoken
from distill.data.cifar_names import COARSE
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
        captions: of every image, made from the names of its class, of which each epoch draws one: false for none,
            true for ``templates``, or a list of templates with ``{fine}``, and in CIFAR-100 ``{coarse}``.
    """

    root: str
    download: bool
    captions: bool | list[str] = False  # records from before there were captions have none

    labels: ClassVar[tuple[str, ...]] = ("label",)
    builder: ClassVar[str] = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"
    templates: ClassVar[tuple[str, ...]] = ("a photo of a {fine}", "a {fine}", "a blurry photo of a {fine}")
    coarse: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.captions is not False:
            words = ["fine", "coarse"] if self.coarse else ["fine"]
            check_templates(self._templates, "dataset.captions", words)

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
        elif any(files):
            raise FileNotFoundError(f"dataset.root={root}: has parquet files of one split only, train or test")
        else:
            train, test = self._torchvision(root, True), self._torchvision(root, False)
        return (train, test) if self.captions is False else (self._captioned(train), self._captioned(test))

    @property
    def _templates(self) -> Sequence[str]:
        return self.templates if isinstance(self.captions, bool) else self.captions

    def _captioned(self, split: ArrayImages) -> Images:
        """Return a split with a caption from each template; a class's captions stand in consecutive rows."""
        unknown = [name for name in split.classes if self.coarse and name not in self.coarse]
        if unknown or not split.classes:
            what = f"class {unknown[0]} is none of CIFAR-100" if unknown else "the files do not name the classes"
            raise ValueError(f"dataset.captions: {what}; set it to false, or use the hub's or torchvision's files")
        count = len(self._templates)
        self._texts = tuple(
            article(template.format(fine=spoken(name), coarse=self.coarse.get(name)))
            for name in split.classes
            for template in self._templates
        )
        rows = torch.arange(len(self._texts)).view(-1, count)[split.target]
        return replace(split, notes=split.notes._replace(text=rows))

    @property
    def _there(self) -> bool:
        root = Path(self.root).expanduser()
        return bool(split_files(root, "train")) or (root / self.folder).is_dir()

    def verify(self) -> None:
        """Check the data where they are there; a download that is still to come is left for the start of training."""
        if self._there or not self.download:
            super().verify()

    def _torchvision(self, root: Path, train: bool) -> ArrayImages:
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
    templates = (
        "a photo of a {fine}",
        "a photo of a {fine}, a kind of {coarse}",
        "{coarse}: a {fine}",
        "a blurry photo of a {fine}",
    )
    coarse = COARSE
