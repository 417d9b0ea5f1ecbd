"""Synthetic images with names and captions, for networks that read."""

from dataclasses import dataclass

import torch

from distill.data.base import ArrayImages, Images, Notes
from distill.data.synthetic import Synthetic

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay")
SAID = ("a {}", "one {} here", "the {}.")


@dataclass(kw_only=True, eq=False, repr=False)
class Captioned(Synthetic):
    """Each image has three captions of its class, of which an epoch draws one."""

    def _make(self, samples: int, split: int) -> Images:
        plain = super()._make(samples, split)
        assert isinstance(plain, ArrayImages)
        names = NAMES[: self.num_classes]
        self._texts = tuple(said.format(name) for name in names for said in SAID)
        rows = plain.target[:, None] * len(SAID) + torch.arange(len(SAID))
        return ArrayImages(plain.images, plain.target, names, notes=Notes(text=rows))
