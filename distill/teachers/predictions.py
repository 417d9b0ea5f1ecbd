"""Predictions: a teacher without its network, whose answers were computed elsewhere and are read from a file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from distill import records, weights
from distill.outputs import Batch, InputSpec, Outputs, Spec
from distill.teachers.base import Teacher

if TYPE_CHECKING:
    from distill.data.base import ImageData


class Predictions(Teacher):
    """Logits by sample of the training data, such as those of a network in TensorFlow or JAX, or of an API.

    A sample has the same answer in all its views: that is right for data which are not augmented, and for others an
    answer to the plain image, which the student is told of every view.

    Args:
        checkpoint: the file. ``.npz`` or ``.safetensors`` with ``logits`` ``(N, K)``, unnormalised scores or
            log-probabilities, and ``ids`` ``(N,)`` where they are not 0 to N - 1; or ``.parquet`` with a column
            ``logits`` of lists and, likewise, one ``id``. An id is the position of a sample in the training data as
            the dataset has them, before any are held out.

    Raises:
        ValueError: when the file cannot be read or is not that.
        FileNotFoundError: when there is none.
    """

    def __init__(self, checkpoint: str) -> None:
        self.path = Path(checkpoint).expanduser()
        self.logits, self.ids = _read(self.path)
        self.device = torch.device("cpu")
        self._rows: Tensor | None = None

    @property
    def sees_pixels(self) -> bool:
        return False

    def identity(self) -> Mapping[str, str]:
        """Return the hash of the file."""
        return {"predictions": records.digest(self.path)}

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        """Refuse taps.

        Raises:
            ValueError: when there are any.
        """
        wanted = list(taps)
        if wanted:
            raise ValueError(f"{self.path.name} has logits only, and a term reads the tap {wanted[0]!r}; leave it out")

    def meet(self, data: ImageData) -> None:
        """Find the answer for every training sample.

        Raises:
            ValueError: when one is missing.
        """
        split = data.splits["train"]
        place = torch.full((max(split.source_size, int(self.ids.max()) + 1),), -1)
        place[self.ids] = torch.arange(len(self.ids))
        rows = place[split.ids]
        if bool((rows < 0).any()):
            missing = split.ids[rows < 0]
            raise ValueError(
                f"{self.path} has no logits for {len(missing):,} of {len(rows):,} training samples, such as id "
                f"{int(missing[0])}; add them, or give ids that are positions in the training data"
            )
        self._rows = rows

    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        """Return the shape of the logits, whatever images are."""
        return {"logits": Spec((self.logits.shape[1],))}

    def to(self, device: torch.device) -> None:
        """Move the logits to ``device``."""
        self.device = device
        self.logits = self.logits.to(device)
        self._rows = None if self._rows is None else self._rows.to(device)

    def __call__(self, batch: Batch) -> Outputs:
        """Return the logits of training samples, by their position in the training split."""
        if self._rows is None:
            raise RuntimeError("call meet() before using a teacher")
        return Outputs(self.logits[self._rows[batch.index]])


def _read(path: Path) -> tuple[Tensor, Tensor]:
    """Return logits ``(N, K)``, float32, and ids ``(N,)``, int64."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    readers = {".npz": _npz, ".parquet": _parquet, ".safetensors": weights.read}
    if path.suffix not in readers:
        raise ValueError(f"{path}: must end in {', '.join(readers)}")
    found = readers[path.suffix](path)
    if "logits" not in found:
        raise ValueError(f"{path}: has no logits, only {', '.join(found) or 'nothing'}")
    logits = torch.as_tensor(found["logits"])
    if logits.ndim != 2 or not logits.is_floating_point() or not logits.numel():
        kind = str(logits.dtype).removeprefix("torch.")
        raise ValueError(f"{path}: logits are {kind} {tuple(logits.shape)}, and must be numbers (samples, classes)")
    ids = torch.as_tensor(found["ids"]) if "ids" in found else torch.arange(len(logits))
    if ids.shape != logits.shape[:1] or ids.is_floating_point():
        raise ValueError(f"{path}: ids are {tuple(ids.shape)}, and must be {len(logits)} whole numbers")
    ids = ids.long()
    if int(ids.min()) < 0 or len(ids.unique()) != len(ids):
        raise ValueError(f"{path}: an id is negative or there twice; each sample has one, from 0")
    logits = logits.float()
    bad = (~logits.isfinite()).any(1)
    if bool(bad.any()):
        raise ValueError(f"{path}: logits of id {int(ids[bad][0])} are not finite; compute them again")
    return logits, ids


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read as npz ({' '.join(str(error).split())[:120]})") from error


def _parquet(path: Path) -> dict[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet ({' '.join(str(error).split())[:120]})") from error
    found = {}
    if "logits" in table.column_names:
        column = table.column("logits").combine_chunks()
        lengths = column.value_lengths() if hasattr(column, "value_lengths") else None
        if lengths is None or column.null_count or lengths.to_numpy().min() != lengths.to_numpy().max():
            raise ValueError(f"{path}: the column logits must hold lists of one length, a number for each class")
        found["logits"] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1).copy()
    if "id" in table.column_names:
        found["ids"] = table.column("id").to_numpy().copy()
    return found or dict.fromkeys(table.column_names, np.empty(0))
