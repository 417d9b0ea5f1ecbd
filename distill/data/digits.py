"""Digits: scikit-learn's 1,797 real 8x8 images of handwritten digits; embedded, no download."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import torch

from distill.data.base import ArrayImages, ImageData, Images
from distill.data.splits import divide


class Digits(ImageData):
    """Handwritten digits (Alpaydin and Kaynak 1998, UCI): 1,200 for training, 597 for testing, stratified, fixed."""

    def read(self) -> tuple[Images, Images]:
        """Return the two splits; pixel p of 0..16 becomes round(p * 255 / 16), halves to even."""
        table = torch.from_numpy(_table())
        images = (table[:, :-1].view(-1, 8, 8) * (255 / 16)).round().to(torch.uint8)[:, None]
        whole = ArrayImages(images, table[:, -1].long(), [str(i) for i in range(10)])
        test, train = divide(whole, 597, seed=0)
        return train, test


def _table() -> np.ndarray:
    """Return a row an image, 64 pixels and the class ``(1797, 65)``, float64.

    From the file that scikit-learn brings along: to import scikit-learn takes half a second, and pandas with it.
    """
    spec = importlib.util.find_spec("sklearn")
    file = Path(spec.origin if spec and spec.origin else "").parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        with gzip.open(file, "rt") as lines:
            return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits  # a release that keeps it elsewhere

    data = load_digits()
    return np.column_stack([data.data, data.target])
