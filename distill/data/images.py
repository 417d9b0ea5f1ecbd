"""Images: a split as an array, or as files that are decoded whenever they are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor


class Notes(NamedTuple):
    """What is said of each sample beside its class; None for what is not.

    Attributes:
        text: rows of the dataset's texts ``(N, V)``, int64: V captions of a sample, or its one question.
        box: left, top, right, bottom of what the target is about, as shares of width and height ``(N, 4)``, float32;
            NaN for samples that have none.
        answers: classes of the answers that get credit ``(N, R)``, int64; -1 after the last.
        credit: what each of them gets ``(N, R)``, float32 in [0, 1].
        kind: which of the dataset's kinds of samples each is, such as a kind of question ``(N,)``, int64.
    """

    text: Tensor | None = None
    box: Tensor | None = None
    answers: Tensor | None = None
    credit: Tensor | None = None
    kind: Tensor | None = None

    def part(self, index: Tensor) -> Notes:
        """Return the notes of the samples at positions ``(n,)``."""
        return Notes(*(None if value is None else value[index.to(value.device)] for value in self))

    def to(self, device: torch.device) -> Notes:
        """Return the notes on a device."""
        return Notes(*(None if value is None else value.to(device) for value in self))

    def content(self) -> Iterator[bytes]:
        """Give what tells them from other notes."""
        for name, value in self._asdict().items():
            if value is not None:
                yield name.encode() + value.contiguous().numpy().tobytes()


class Images(Protocol):
    """A split: class indices ``(N,)``, and any of its images as uint8 of one ``(C, H, W)`` shape."""

    @property
    def target(self) -> Tensor:
        """Class indices ``(N,)``, int64."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes; empty where they have none."""

    @property
    def notes(self) -> Notes:
        """What is said of each sample beside its class."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of every image."""

    @property
    def ids(self) -> Tensor:
        """Position of each sample in the source ``(N,)``, int64: the same in whatever part of it the sample is."""

    @property
    def source_size(self) -> int:
        """Samples of the source, of which this may be a part."""

    def content(self) -> Iterator[bytes]:
        """Give, in pieces, what tells the source's images from others: pixels, or names and sizes of files."""

    def __len__(self) -> int: ...

    def gather(self, index: Tensor) -> Tensor:
        """Return the images at positions ``(n,)``, contiguous."""

    def part(self, index: Tensor, target: Tensor, classes: Sequence[str]) -> Images:
        """Return the split of the samples at positions ``(n,)``, with these class indices ``(n,)`` and names."""

    def verify(self) -> None:
        """Look at images before training; raise ValueError that names the first one that cannot be read."""


@dataclass(frozen=True)
class ArrayImages:
    """A split in memory, or in a memory-mapped file.

    Args:
        images: uint8 ``(M, C, H, W)``.
        target: class indices ``(N,)``, int64.
        classes: their names; empty where they have none.
        rows: which images ``(N,)`` make up the split; None for all, with M = N. A part of a split copies no image.
        notes: what is said of each sample beside its class.
        numbers: position of each sample in the source ``(N,)``, where several samples show one image; None: its row.
        samples: of the source; None: as many as images.
    """

    images: Tensor
    target: Tensor
    classes: Sequence[str] = ()
    rows: Tensor | None = None
    notes: Notes = Notes()
    numbers: Tensor | None = None
    samples: int | None = None

    PIECE = 4096  # images hashed at a time, so that a mapped file is never in memory as a whole

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape[1:])

    @property
    def ids(self) -> Tensor:
        if self.numbers is not None:
            return self.numbers
        return torch.arange(len(self)) if self.rows is None else self.rows

    @property
    def source_size(self) -> int:
        return len(self.images) if self.samples is None else self.samples

    def content(self) -> Iterator[bytes]:
        for piece in self.images.split(self.PIECE):
            yield piece.contiguous().numpy().data
        yield from self.notes.content()

    def __len__(self) -> int:
        return len(self.target)

    def gather(self, index: Tensor) -> Tensor:
        return self.images.index_select(0, index if self.rows is None else self.rows[index])

    def part(self, index: Tensor, target: Tensor, classes: Sequence[str]) -> ArrayImages:
        rows = index if self.rows is None else self.rows[index]
        numbers = None if self.numbers is None else self.numbers[index]
        return ArrayImages(self.images, target, classes, rows, self.notes.part(index), numbers, self.samples)

    def to(self, device: torch.device) -> ArrayImages:
        """Return the split on a device, only the images that it is made of."""
        images, rows = self.images, None
        if self.rows is not None:
            kept, rows = self.rows.unique(return_inverse=True)  # several samples may show one image
            images, rows = images[kept], rows.to(device)
        notes, numbers = self.notes.to(device), self.ids
        return ArrayImages(
            images.to(device), self.target.to(device), self.classes, rows, notes, numbers, self.source_size
        )

    def verify(self) -> None:
        """Nothing to do: an array has been read whole."""


class Source(Protocol):
    """Where encoded images come from."""

    @property
    def files(self) -> Sequence[str | Path]:
        """What the images are in, in order; empty where that cannot be told."""

    @property
    def column(self) -> str:
        """Which of the images in the files; empty where there is one kind."""

    def __len__(self) -> int: ...

    def open(self, row: int) -> Image.Image:
        """Return an image; what PIL raises on a corrupt one is left to the caller."""

    def name(self, row: int) -> str:
        """Return what a user finds the image by: its path, or its row in a named file."""

    def content(self) -> Iterator[bytes]:
        """Give what tells these images from others without decoding them, in pieces."""


@dataclass(frozen=True)
class FileImages:
    """A split of encoded images, decoded each time, resized to cover ``size`` and cropped at the centre.

    Args:
        source: opens an image.
        target: class indices ``(N,)``, int64.
        classes: their names.
        channels: 3 for RGB, 1 for grey.
        size: height and width.
        rows: of each sample in the source ``(N,)``.
        notes: what is said of each sample beside its class.
        numbers: position of each sample among all, where several samples show one image ``(N,)``; None: its row.
        samples: of all; None: as many as images.
    """

    source: Source
    target: Tensor
    classes: Sequence[str]
    channels: int
    size: tuple[int, int]
    rows: Tensor
    notes: Notes = Notes()
    numbers: Tensor | None = None
    samples: int | None = None

    LOOKED_AT = 1000  # images that verify decodes: all of a small folder, an even sample of a large one

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.size)

    @property
    def ids(self) -> Tensor:
        return self.rows if self.numbers is None else self.numbers

    @property
    def source_size(self) -> int:
        return len(self.source) if self.samples is None else self.samples

    def content(self) -> Iterator[bytes]:
        yield from self.source.content()
        yield from self.notes.content()

    def __len__(self) -> int:
        return len(self.target)

    def gather(self, index: Tensor) -> Tensor:
        return torch.stack([self._decode(row) for row in self.rows[index].tolist()])

    def part(self, index: Tensor, target: Tensor, classes: Sequence[str]) -> FileImages:
        numbers = None if self.numbers is None else self.numbers[index]
        notes = self.notes.part(index)
        return replace(self, target=target, classes=classes, rows=self.rows[index], notes=notes, numbers=numbers)

    def verify(self) -> None:
        """Decode every image, or an even sample of 1,000 where there are more.

        Raises:
            ValueError: names the first image that cannot be decoded.
        """
        step = max(len(self) / self.LOOKED_AT, 1.0)
        looked_at = [self.rows[int(i * step)].item() for i in range(min(len(self), self.LOOKED_AT))]
        with ThreadPoolExecutor() as pool:
            for _ in pool.map(self._decode, looked_at):
                pass

    def _decode(self, row: int) -> Tensor:
        return decode(self.source, int(row), self.channels, self.size)


def decode(source: Source, row: int, channels: int, size: tuple[int, int]) -> Tensor:
    """Return one image as uint8 ``(C, H, W)``, resized to cover ``size`` and cropped at the centre.

    Raises:
        ValueError: names the image when it cannot be decoded.
    """
    try:
        image = source.open(row).convert("RGB" if channels == 3 else "L")
    # PIL raises SyntaxError on broken PNG, ValueError and struct errors elsewhere
    except (OSError, SyntaxError, ValueError, IndexError, Image.DecompressionBombError) as error:
        reason = "no image format that is known" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"{source.name(row)}: cannot be decoded ({reason}); replace or delete it") from error
    height, width = size
    if image.size != (width, height):
        factor = max(height / image.height, width / image.width)
        wide, tall = max(round(image.width * factor), width), max(round(image.height * factor), height)
        left, top = (wide - width) // 2, (tall - height) // 2
        image = image.resize((wide, tall), Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
    return torch.from_numpy(np.array(image)).view(height, width, channels).permute(2, 0, 1).contiguous()
