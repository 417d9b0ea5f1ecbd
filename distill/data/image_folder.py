"""Image folder: one folder a class, in ``train``, ``val`` and ``test`` or all in one root."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from distill.data.base import FileImages, ImageData, Images
from distill.data.splits import divide

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Ends of names that are images, in any case; torchvision's list."""


@dataclass(frozen=True)
class PathSource:
    """Images in files of their own."""

    paths: Sequence[str]

    column = ""

    @property
    def files(self) -> Sequence[str]:
        """The paths."""
        return self.paths

    def __len__(self) -> int:
        return len(self.paths)

    def open(self, row: int) -> Image.Image:
        """Return an image, read at once so that no file stays open."""
        with Image.open(self.paths[row]) as image:
            image.load()
            return image

    def name(self, row: int) -> str:
        """Return the path."""
        return self.paths[row]

    def content(self) -> Iterator[bytes]:
        """Give the path below the common folder and the size of every file."""
        root = os.path.commonpath(self.paths)
        for path in self.paths:
            yield f"{os.path.relpath(path, root)} {Path(path).stat().st_size}\n".encode()


@dataclass(kw_only=True, eq=False, repr=False)
class ImageFolder(ImageData):
    """Images in one folder a class; a class's index is its place in the alphabet.

    Under ``root``: ``train`` and ``test``, and ``val`` if there is one; or ``train`` and ``val``, which then is the
    test split (ImageNet); or the class folders themselves, and ``test_fraction`` of each is set aside for testing.

    Args:
        root: the folder.
        test_fraction: share of the images for testing where root has no split; not used otherwise.
    """

    root: str
    test_fraction: float

    @property
    def _folder(self) -> Path:
        return Path(self.root).expanduser()

    @property
    def own_val(self) -> bool:
        return all((self._folder / name).is_dir() for name in ("train", "val", "test"))

    def read(self) -> tuple[Images, Images] | tuple[Images, Images, Images | None]:
        """Return the splits.

        Raises:
            FileNotFoundError: when root, a split, or the images of a class are missing.
            ValueError: when a split has a class that train has not.
        """
        root = self._folder
        if not root.is_dir():
            raise FileNotFoundError(f"dataset.root={root}: no such folder; set it to one with a folder for each class")
        if not (root / "train").is_dir():
            if not 0 < self.test_fraction < 1:
                raise ValueError(
                    f"dataset.test_fraction={self.test_fraction:g}: must be between 0 and 1, as {root} has no train/"
                )
            whole = self._split(root, _classes(root))
            test, train = divide(whole, round(self.test_fraction * len(whole)), self.split_seed + 2)
            return train, test
        classes = _classes(root / "train")
        tested = root / ("test" if (root / "test").is_dir() else "val")
        if not tested.is_dir():
            raise FileNotFoundError(f"dataset.root={root}: has train/ but neither test/ nor val/; add one")
        val = self._split(root / "val", classes) if self.own_val else None
        return self._split(root / "train", classes), self._split(tested, classes), val

    def _split(self, folder: Path, classes: list[str]) -> FileImages:
        unknown = sorted(set(_classes(folder)) - set(classes))
        if unknown:
            raise ValueError(f"{folder}: class folder {unknown[0]} is not in train/; rename or remove it")
        paths: list[str] = []
        target: list[int] = []
        for label, name in enumerate(classes):
            found = _images(folder / name)
            paths += found
            target += [label] * len(found)
        labels = torch.tensor(target, dtype=torch.int64)
        return FileImages(PathSource(paths), labels, classes, self.channels, self.image_size, torch.arange(len(paths)))


def _classes(folder: Path) -> list[str]:
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise FileNotFoundError(f"{folder}: has no class folders; put the images of each class in a folder of its own")
    return names


def _images(folder: Path) -> list[str]:
    """Return the image files in a class folder and below it, sorted."""
    return sorted(
        str(Path(where) / name)
        for where, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    )
