"""QuestionData: what datasets of questions about images have in common; the answer is the class."""

from abc import abstractmethod
from dataclasses import dataclass

import torch

from distill.data.base import ArrayImages, FileImages, ImageData, Images
from distill.data.keyed import mix

GREY = 128
"""What every pixel is where questions are asked blindly."""


@dataclass(kw_only=True, eq=False, repr=False)
class QuestionData(ImageData):
    """Base of every dataset of questions; a subclass implements :meth:`ask`.

    A sample is a question. ``val_fraction`` holds out images with all their questions, or else a network would know
    the images on which it is chosen; ``train_size`` counts questions.

    Args:
        blind: every image is the same grey, so that accuracy is what questions alone are worth to the network.
    """

    blind: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mix is not None:
            raise ValueError("dataset.mix: a question is about one image, not about two; take dataset/mix=none")

    @property
    def asks(self) -> bool:
        return True

    @property
    def own_val(self) -> bool:
        return self.val_fraction > 0

    @abstractmethod
    def ask(self) -> tuple[ArrayImages | FileImages, ArrayImages | FileImages]:
        """Return training and test questions, with ``rows`` that say which image each is about."""

    def read(self) -> tuple[Images, Images] | tuple[Images, Images, Images | None]:
        """Return the splits.

        Raises:
            FileNotFoundError: when there is nothing to read.
            ValueError: when what there is cannot be read, or ``val_fraction`` leaves no image.
        """
        train, test = self.ask()
        found: list[Images] = [train, test]
        if self.val_fraction:
            val, rest = by_image(train, self.val_fraction, self.split_seed)
            if not len(val) or not len(rest):
                raise ValueError(
                    f"dataset.val_fraction={self.val_fraction:g} leaves {len(rest)} training and {len(val)} validation "
                    "questions; change it, or set it to 0"
                )
            found = [rest, test, val]
        return tuple(map(blinded, found) if self.blind else found)  # type: ignore[return-value]


def by_image(
    split: ArrayImages | FileImages, share: float, seed: int
) -> tuple[ArrayImages | FileImages, ArrayImages | FileImages]:
    """Return the samples of a share of the images, and those of the others; both in their old order.

    Args:
        split: with the row of each sample's image.
        share: of the images, in (0, 1).
        seed: decides which.
    """
    rows = split.ids if split.rows is None else split.rows
    images = rows.unique()
    chosen = images[mix(images + (seed << 32)).argsort(stable=True)[: round(share * len(images))]]
    taken = torch.isin(rows, chosen)
    first, other = taken.nonzero()[:, 0], (~taken).nonzero()[:, 0]
    target, classes = split.target, split.classes
    return split.part(first, target[first], classes), split.part(other, target[other], classes)


def blinded(split: Images) -> Images:
    """Return a split in which every sample shows the same grey image."""
    grey = torch.full((1, *split.shape), GREY, dtype=torch.uint8)
    rows = torch.zeros(len(split), dtype=torch.int64)
    return ArrayImages(grey, split.target, split.classes, rows, split.notes, split.ids, split.source_size)
