"""ImageData: splits, validation, augmentation, loaders of every image dataset; a dataset only says how it is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill.data.augment import Augment
from distill.data.keyed import mix
from distill.data.loader import EvalSampler, Key, Loader, TrainSampler
from distill.outputs import Batch


class Images(Protocol):
    """A split: class indices ``(N,)`` and a way to read any of its images as uint8 of one ``(C, H, W)`` shape."""

    target: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of every image."""

    def __len__(self) -> int: ...

    def gather(self, index: Tensor) -> Tensor:
        """Return the images at positions ``(n,)``."""

    def part(self, index: Tensor) -> Images:
        """Return the split that holds only the samples at positions ``(n,)``."""


@dataclass
class ArrayImages:
    """A split in memory: uint8 images ``(N, C, H, W)`` and class indices ``(N,)``, int64."""

    images: Tensor
    target: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of every image."""
        return tuple(self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.target)

    def gather(self, index: Tensor) -> Tensor:
        """Return the images at positions ``(n,)``."""
        return self.images[index]

    def part(self, index: Tensor) -> ArrayImages:
        """Return the split that holds only the samples at positions ``(n,)``."""
        return ArrayImages(self.images[index], self.target[index])


class Views(Dataset[Batch]):
    """A split seen through an augmentation: makes a whole batch from a list of (index, view)."""

    def __init__(self, split: Images, augment: Augment | None, seed: int) -> None:
        self.split, self.augment, self.seed = split, augment, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: Key) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return the batch of these (index, view) pairs."""
        index, view = torch.tensor(keys, dtype=torch.int64).unbind(1)
        images = self.split.gather(index)
        if self.augment is not None:
            images = self.augment(images, self.seed, view, index)
        return Batch(images.contiguous(), self.split.target[index], index, view)


def held_out(target: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return positions of the kept and of the held-out samples, the same share of every class.

    Args:
        target: class indices ``(N,)``.
        fraction: share to hold out, in [0, 1).
        seed: decides which; not the run's seed, so that all runs hold out the same samples.
    """
    order = mix(torch.arange(len(target)) + (seed << 32)).argsort(stable=True)
    out = torch.zeros(len(target), dtype=torch.bool)
    for label in target.unique().tolist():
        members = order[target[order] == label]
        out[members[: round(fraction * len(members))]] = True
    return (~out).nonzero()[:, 0], out.nonzero()[:, 0]


class ImageData(pl.LightningDataModule):
    """Base of every image dataset; a subclass implements :meth:`read`.

    Args:
        num_classes: number of classes; checked against the data, as are channels and image_size.
        channels: channels of an image.
        image_size: height and width.
        mean: mean of [0, 1] pixels by channel, for networks without their own.
        std: standard deviation by channel.
        batch_size: samples of an optimizer micro-step over all devices together.
        eval_batch_size: samples of an evaluation batch on one device.
        val_fraction: share of the training split that is held out for choosing, by class; 0 for none.
        split_seed: decides which samples are held out.
        train_size: use only so many training samples, the same share of every class; null for all.
        augment: of training images; null for none.
        workers: processes that make batches.
        seed: of the run: order and augmentation.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        eval_batch_size: int,
        val_fraction: float,
        split_seed: int,
        train_size: int | None,
        augment: Augment | None,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {min(batch_size, eval_batch_size)}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction must be in [0, 1), got {val_fraction:g}")
        self.num_classes, self.channels, self.image_size = num_classes, channels, (image_size[0], image_size[1])
        self.mean, self.std = tuple(mean), tuple(std)
        self.batch_size, self.eval_batch_size, self.workers, self.seed = batch_size, eval_batch_size, workers, seed
        self.val_fraction, self.split_seed, self.train_size, self.augment = (
            val_fraction,
            split_seed,
            train_size,
            augment,
        )
        self.eval_names = ["val", "test"] if val_fraction else ["test"]
        self.classes: list[str] = [str(i) for i in range(num_classes)]
        self._splits: dict[str, Images] = {}

    @abstractmethod
    def read(self) -> tuple[Images, Images]:
        """Return the training and the test split."""

    @property
    def splits(self) -> dict[str, Images]:
        """Splits by name, read on first use.

        Raises:
            ValueError: when they are not what the config declares.
        """
        if not self._splits:
            train, test = self.read()
            for name, split in (("train", train), ("test", test)):
                self._verify(name, split)
            if self.train_size is not None and self.train_size < len(train):
                train = train.part(held_out(train.target, self.train_size / len(train), self.split_seed + 1)[1])
            kept, held = held_out(train.target, self.val_fraction, self.split_seed)
            val = {"val": train.part(held)} if self.val_fraction else {}
            self._splits = {"train": train.part(kept), **val, "test": test}
        return self._splits

    def _verify(self, name: str, split: Images) -> None:
        if not len(split):
            raise ValueError(f"the {name} split is empty")
        declared, found = (self.channels, *self.image_size), split.shape
        if declared != found:
            raise ValueError(f"channels and image_size declare {declared}, the {name} images are {found}; set them so")
        highest = int(split.target.max())
        if highest >= self.num_classes:
            raise ValueError(
                f"num_classes={self.num_classes}, but the {name} split has a class {highest}; set it right"
            )

    def verify(self) -> None:
        """Read every split once.

        Raises:
            ValueError: when they are not what the config declares.
        """
        self.splits  # noqa: B018 - reading is the check

    def train_dataloader(self) -> Loader:
        """Return augmented training batches in the order of seed and epoch."""
        views = Views(self.splits["train"], self.augment, self.seed)
        return Loader(views, TrainSampler(len(views), self.batch_size, self.seed), self.workers)

    def val_dataloader(self) -> list[Loader]:
        """Return a loader for each name in ``eval_names``."""
        return [self.loader(name) for name in self.eval_names]

    def test_dataloader(self) -> Loader:
        """Return the test split."""
        return self.loader("test")

    def loader(self, split: str) -> Loader:
        """Return a split in its own order, not augmented.

        Raises:
            ValueError: when there is no such split.
        """
        if split not in self.splits:
            raise ValueError(f"split {split!r} does not exist; there are {', '.join(self.splits)}")
        views = Views(self.splits[split], None, self.seed)
        return Loader(views, EvalSampler(len(views), self.eval_batch_size), self.workers)
