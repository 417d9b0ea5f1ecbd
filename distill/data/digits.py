"""Digits: scikit-learn's 1,797 real 8x8 images of handwritten digits; embedded, no download."""

import torch
from sklearn.datasets import load_digits

from distill.data.base import ArrayImages, ImageData, Images
from distill.data.splits import divide


class Digits(ImageData):
    """Handwritten digits (Alpaydin and Kaynak 1998, UCI): 1,200 for training, 597 for testing, stratified, fixed."""

    def read(self) -> tuple[Images, Images]:
        """Return the two splits; pixel p of 0..16 becomes round(p * 255 / 16), halves to even."""
        data = load_digits()
        images = torch.tensor(data.images * (255 / 16)).round().to(torch.uint8)[:, None]
        whole = ArrayImages(images, torch.tensor(data.target, dtype=torch.int64), [str(i) for i in range(10)])
        test, train = divide(whole, 597, seed=0)
        return train, test
