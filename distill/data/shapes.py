"""Shapes: images of several coloured shapes made on the spot, with captions; the class is that of the largest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from distill.data.base import ArrayImages, ImageData, Images, Notes
from distill.data.captions import TEMPLATES, Rows, caption
from distill.data.scenes import COLORS, SHAPES, Scenes, draw_scenes, paint

TRAIN, TEST = 0, 1
MOST, LEAST_SIDE = 8, 32


@dataclass(kw_only=True, eq=False, repr=False)
class SceneData(ImageData):
    """Base of the datasets that draw scenes; what is drawn depends on ``scene_seed``, never on the run's seed.

    Args:
        images: training images, the held-out ones included; more of them begin with the same ones.
        test_images: test images.
        objects: smallest and largest number of objects in an image.
        colors: names of the colours.
        shapes: names of the shapes.
        distinct: no colour and no shape twice in an image.
        noise: largest change of a pixel by noise, as a share of white.
        held_out: pairs of colour and shape that no training image shows (after the compositional splits of CLEVR,
            Johnson et al. 2017): names such as ``red circle``, or how many, dealt evenly to the colours.
        test_pairs: whether test images show pairs that are not held out (``seen``), are about held-out ones
            (``unseen``), or both alike (``all``).
        scene_seed: decides what is drawn.
    """

    images: int
    test_images: int
    objects: tuple[int, int]
    colors: list[str]
    shapes: list[str]
    distinct: bool
    noise: float
    held_out: int | list[str]
    test_pairs: Literal["seen", "unseen", "all"]
    scene_seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("colors", tuple(COLORS)), ("shapes", SHAPES)):
            given = list(getattr(self, name))
            wrong = [word for word in given if word not in known]
            if wrong or not given or len(set(given)) < len(given):
                raise ValueError(f"dataset.{name}={given}: must be different ones of {', '.join(known)}")
        low, high = self.objects
        if not 1 <= low <= high <= MOST:
            raise ValueError(f"dataset.objects={list(self.objects)}: must be [smallest, largest] within 1 and {MOST}")
        if self.distinct and high > min(len(self.colors), len(self.shapes)):
            raise ValueError(
                f"dataset.objects={list(self.objects)}: with distinct=true there can be no more than "
                f"{min(len(self.colors), len(self.shapes))}, as many as colors and shapes"
            )
        if self.channels != 3 or min(self.image_size) < LEAST_SIDE:
            raise ValueError(
                f"dataset.channels={self.channels} and dataset.image_size={list(self.image_size)}: scenes have 3 "
                f"channels and sides of at least {LEAST_SIDE} pixels"
            )
        for name in ("images", "test_images"):
            if getattr(self, name) < 1:
                raise ValueError(f"dataset.{name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"dataset.noise={self.noise:g}: must be in [0, 1]")
        self.unseen = self._unseen()
        if self.test_pairs == "unseen" and not len(self.unseen):
            raise ValueError("dataset.test_pairs=unseen: no pair is held out; set dataset.held_out, such as to 5")

    @property
    def names(self) -> list[list[str]]:
        """Names of the pairs, by colour and shape."""
        return [[f"{color} {shape}" for shape in self.shapes] for color in self.colors]

    def _unseen(self) -> Tensor:
        """Return the pairs that are held out ``(U,)``: colour times the number of shapes plus shape."""
        colors, shapes = len(self.colors), len(self.shapes)
        flat = [name for row in self.names for name in row]
        if isinstance(self.held_out, int):
            turns = [divmod(i, colors) for i in range(max(self.held_out, 0))]
            pairs = [color * shapes + (color + turn) % shapes for turn, color in turns]
        else:
            wrong = [name for name in self.held_out if name not in flat]
            if wrong:
                raise ValueError(f"dataset.held_out={list(self.held_out)}: {wrong[0]} is no pair; one is {flat[0]}")
            pairs = [flat.index(name) for name in self.held_out]
        unseen = torch.tensor(sorted(set(pairs)), dtype=torch.int64)
        seen = self._seen(unseen)
        if len((seen // shapes).unique()) < colors or len((seen % shapes).unique()) < shapes:
            raise ValueError(f"dataset.held_out={self.held_out}: leaves a colour or a shape without any training image")
        return unseen

    def _seen(self, unseen: Tensor) -> Tensor:
        every = torch.arange(len(self.colors) * len(self.shapes))
        return every[~torch.isin(every, unseen)]

    def scenes(self, split: int) -> Scenes:
        """Return what is in the images of a split."""
        seen = self._seen(self.unseen)
        first = others = seen
        if split == TEST and self.test_pairs != "seen":
            others = self._seen(self.unseen[:0])
            first = self.unseen if self.test_pairs == "unseen" else others
        images = self.images if split == TRAIN else self.test_images
        return draw_scenes(
            images, self.objects, self.image_size, first, others, self.distinct, len(self.shapes), self.scene_seed,
            split,
        )  # fmt: skip

    def painted(self, scenes: Scenes, split: int) -> Tensor:
        """Return the images of scenes, uint8 ``(M, 3, H, W)``."""
        return paint(scenes, self.image_size, self.colors, self.shapes, self.noise, self.scene_seed, split)

    def shares(self, box: Tensor) -> Tensor:
        """Return boxes in pixels ``(N, 4)`` as shares of width and height, float32."""
        height, width = self.image_size
        return box / torch.tensor([width, height, width, height], dtype=torch.float32)


@dataclass(kw_only=True, eq=False, repr=False)
class Shapes(SceneData):
    """The class is colour and shape of the largest object, ``red circle``; its box is noted.

    Args:
        captions: captions an image, of which every epoch draws one; 0 for none.
    """

    captions: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.captions <= len(TEMPLATES):
            raise ValueError(f"dataset.captions={self.captions}: must be from 0 to {len(TEMPLATES)}")
        if self.captions and self.augment is not None and self.augment.mirrors:
            raise ValueError(
                f"dataset.captions={self.captions}: some say left or right, which is wrong of mirrored images; set "
                "flip of dataset.augment to false, or dataset.captions=0"
            )

    @property
    def kinds(self) -> Sequence[str]:
        """Whether the pair of the largest object is in training images; nothing to tell where none is held out."""
        return ("seen", "unseen") if len(self.unseen) else ()

    @property
    def absent(self) -> Sequence[str]:
        """Names of the pairs that are held out."""
        flat = [name for row in self.names for name in row]
        return [flat[i] for i in self.unseen.tolist()]

    def read(self) -> tuple[Images, Images]:
        """Return the two splits."""
        rows = Rows()
        train, test = self._split(TRAIN, rows), self._split(TEST, rows)
        self._texts = rows.texts
        return train, test

    def _split(self, split: int, rows: Rows) -> Images:
        scenes = self.scenes(split)
        text = None
        if self.captions:
            text = caption(scenes, self.image_size, self.names, self.captions, self.scene_seed, split, rows)
        target = scenes.color[:, 0] * len(self.shapes) + scenes.shape[:, 0]
        kind = torch.isin(target, self.unseen).long() if self.kinds else None
        notes = Notes(text, self.shares(scenes.box[:, 0]), kind=kind)
        names = [name for row in self.names for name in row]
        return ArrayImages(self.painted(scenes, split), target, names, notes=notes)
