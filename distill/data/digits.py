"""Digits: scikit-learn's 1,797 real 8x8 images of handwritten digits; embedded, no download."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits

from distill.data.base import ArrayImages, ImageData, held_out


class Digits(ImageData):
    """Handwritten digits (Alpaydin and Kaynak 1998, UCI): 1,201 for training, 596 for testing, stratified, fixed."""

    def read(self) -> tuple[ArrayImages, ArrayImages]:
        """Return the two splits; pixel values 0..16 become 0..255."""
        data = load_digits()
        images = torch.tensor(data.images * (255 / 16)).round().to(torch.uint8)[:, None]
        whole = ArrayImages(images, torch.tensor(data.target, dtype=torch.int64))
        train, test = held_out(whole.target, 597 / 1797, seed=0)
        return whole.part(train), whole.part(test)
