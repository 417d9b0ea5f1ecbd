"""A teacher that embeds images and words with no training: by their colours; and images of one coloured box each."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.data.base import ArrayImages, Images, Notes
from distill.data.synthetic import Synthetic
from distill.outputs import Anchors, Words

COLOURS = {
    "red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0), "yellow": (1.0, 1.0, -1.0),
    "pink": (1.0, -1.0, 1.0),
}  # fmt: skip
WIDTH, PATCH, SCALE = 8, 4, 20.0


def colour(word: str) -> tuple[float, ...]:
    """Return the colour of a word: that which it names, else one by its letters."""
    last = word.split()[-1]
    if last in COLOURS:
        return COLOURS[last]
    random = torch.Generator().manual_seed(zlib.crc32(last.encode()))
    return tuple((2 * torch.rand(3, generator=random) - 1).tolist())


class FakeCLIP(nn.Module):
    """Zero-shot classifier of colours: a patch's vector, and a word's, is its colour turned into ``WIDTH`` dimensions.

    ``dense_last_hidden`` is the map upside down in colour, as the last layer of a CLIP may be.
    """

    reads_text = True
    taps: ClassVar[dict[str, str]] = {
        name: name for name in ("image_embedding", "text_embedding", "dense_value", "dense_last_hidden")
    }
    captions: Tensor
    text: Tensor

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        turn = torch.linalg.qr(torch.randn(WIDTH, 3, generator=torch.Generator().manual_seed(0))).Q
        self.patches = nn.Conv2d(channels, WIDTH, PATCH, PATCH, bias=False)
        with torch.no_grad():
            self.patches.weight.copy_((turn / PATCH**2)[:, :, None, None].expand(-1, -1, PATCH, PATCH))
        self.turn = turn
        for name in self.taps:
            setattr(self, name, nn.Identity())
        self.register_buffer("text", torch.zeros(num_classes, WIDTH), persistent=False)
        self.register_buffer("captions", torch.zeros(1, WIDTH), persistent=False)

    @property
    def anchors(self) -> Anchors:
        return Anchors(self.text, SCALE)

    def encode_classes(self, names: Sequence[str]) -> Tensor:
        """Return text vectors ``(K, WIDTH)`` of length 1."""
        return F.normalize(torch.tensor([colour(name) for name in names]) @ self.turn.T, dim=1)

    def meet(self, words: Words) -> None:
        self.text = self.encode_classes(words.classes)
        if words.texts:
            self.captions = self.encode_classes(words.texts)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        dense = self.dense_value(self.patches(x))
        self.dense_last_hidden(-dense)
        self.text_embedding(self.captions[rows])
        strength = dense.square().sum(1, keepdim=True)  # grey patches say nothing
        pooled = (strength * dense).sum((2, 3))
        return SCALE * self.image_embedding(F.normalize(pooled, dim=1)) @ self.text.T.to(x.dtype)


def fake_clip(num_classes: int, channels: int) -> FakeCLIP:
    """Return a :class:`FakeCLIP`."""
    return FakeCLIP(num_classes, channels)


@dataclass(kw_only=True, eq=False, repr=False)
class Boxes(Synthetic):
    """One box of the colour of the class on grey noise, with a caption of each of two wordings, and the box."""

    def _make(self, samples: int, split: int) -> Images:
        height, width = self.image_size
        target = torch.arange(samples) % self.num_classes
        names = list(COLOURS)[: self.num_classes]
        noise = self._draw(2, samples, split, (1, height, width))
        images = (0.4 + 0.2 * noise).expand(-1, self.channels, -1, -1).clone()
        top, left = (torch.arange(samples) // 5) % 2, torch.arange(samples) % 2
        for i, k in enumerate(target.tolist()):
            rows, columns = (
                slice(int(a) * n // 2, (int(a) + 1) * n // 2) for a, n in ((top[i], height), (left[i], width))
            )
            images[i, :, rows, columns] = (torch.tensor(COLOURS[names[k]])[:, None, None] + 1) / 2
        self._texts = tuple(f"{wording} {name}" for name in names for wording in ("a photo of", "something"))
        text = 2 * target[:, None] + torch.arange(2)
        box = torch.stack([left / 2, top / 2, left / 2 + 0.5, top / 2 + 0.5], 1).float()
        return ArrayImages((255 * images).to(torch.uint8), target, names, notes=Notes(text, box))


TEACHER = (
    "teacher=[resnet14]", "teacher.resnet14.checkpoint=built",
    "teacher.resnet14.network._target_=tests.fake_clip.fake_clip",
)  # fmt: skip
"""Overrides that choose it."""
STUDENT = ("student=aligned", "student@student.network=resnet8", f"student.width={WIDTH}")
DATA = (
    "dataset=synthetic", "dataset._target_=tests.fake_clip.Boxes", "dataset.num_classes=5",
    "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.5,0.5,0.5]",
)  # fmt: skip
