"""MedMNIST: small medical images in one npz file (Yang et al. 2023, medmnist.com), with their own validation split."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from distill.data.base import ArrayImages, ImageData, Images


@dataclass(kw_only=True, eq=False, repr=False)
class MedMNIST(ImageData):
    """Any of its two-dimensional sets with one class an image; read as it is, never downloaded.

    Args:
        file: the npz: ``train_images`` ``(N, H, W)`` or ``(N, H, W, 3)``, ``train_labels`` ``(N, 1)``, ``val_*``,
            ``test_*``.
    """

    file: str

    @property
    def own_val(self) -> bool:
        return True

    def read(self) -> tuple[Images, Images, Images]:
        """Return the splits.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it is no npz, or holds something else.
        """
        path = Path(self.file).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"dataset.file={path}: no such file; get one from https://medmnist.com")
        arrays = _arrays(path)
        train, val, test = (self._split(path, arrays, name) for name in ("train", "val", "test"))
        return train, test, val

    def _split(self, path: Path, arrays: dict[str, np.ndarray], name: str) -> Images:
        wanted = (f"{name}_images", f"{name}_labels")
        missing = [key for key in wanted if key not in arrays]
        if missing:
            raise ValueError(f"dataset.file={path}: has no {missing[0]}, but {', '.join(arrays) or 'nothing'}")
        images, labels = (arrays[key] for key in wanted)
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            raise ValueError(f"dataset.file={path}: {wanted[0]} is {images.dtype} {images.shape}, not uint8 images")
        if labels.size != len(images) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"dataset.file={path}: {wanted[1]} is {labels.dtype} {labels.shape}, not one class for each of "
                f"{len(images)} images; sets with several labels an image are not supported"
            )
        pixels = torch.from_numpy(images)
        pixels = pixels[:, None] if images.ndim == 3 else pixels.permute(0, 3, 1, 2)
        return ArrayImages(pixels.contiguous(), torch.from_numpy(labels.reshape(-1).astype(np.int64)))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array only")
            return dict(found)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"dataset.file={path}: cannot be read as npz ({error}); copy or get it again") from error
