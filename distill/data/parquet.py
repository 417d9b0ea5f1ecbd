"""Parquet: image splits in the layout of the Hugging Face hub, ``train-00000-of-00002.parquet`` and so on."""

from __future__ import annotations

import io
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image

from distill.data.decoded import decoded
from distill.data.images import ArrayImages


def split_files(root: Path, split: str) -> list[Path]:
    """Return the parquet files of a split in a folder or below it, in order; none where there are none.

    Raises:
        FileNotFoundError: names a file that is missing.
    """
    files = sorted(root.rglob(f"{split}[-.]*parquet"), key=lambda path: path.name)
    numbered = [m for path in files if (m := re.search(r"-(\d+)-of-(\d+)$", path.stem))]
    there = {int(m[1]) for m in numbered}
    missing = [i for m in numbered for i in range(int(m[2])) if i not in there]
    if missing:
        raise FileNotFoundError(
            f"dataset.root={root}: file {missing[0]:05d} of the {split} split is missing; there is "
            f"{', '.join(path.name for path in files)}"
        )
    return files


@dataclass(frozen=True)
class ParquetSource:
    """Encoded images of one column of parquet files.

    Args:
        files: in order.
        starts: row of the whole at which each file starts.
        column: name of the column, ``{bytes, path}``.
        encoded: the bytes of every row.
    """

    files: Sequence[Path]
    starts: Sequence[int]
    column: str
    encoded: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.encoded)

    def open(self, row: int) -> Image.Image:
        """Return the image of a row."""
        return Image.open(io.BytesIO(self.encoded[row].as_py() or b""))

    def name(self, row: int) -> str:
        """Return the file, the row in it and the column."""
        file = bisect_right(self.starts, row) - 1
        return f"{self.files[file]}, row {row - self.starts[file]}, column {self.column}"

    def content(self) -> Iterator[bytes]:
        """Give the name and size of every file."""
        for path in self.files:
            yield f"{path.name} {path.stat().st_size} {self.column}\n".encode()


def read_arrays(
    files: Sequence[Path], images: Sequence[str], labels: Sequence[str], shape: tuple[int, int, int]
) -> ArrayImages:
    """Return a split with every image decoded, memory-mapped from the cache where that was done before.

    Args:
        files: parquet files of the split, in order.
        images: names that the image column may have.
        labels: names that the label column may have.
        shape: channels, height and width that images are brought to.

    Raises:
        ValueError: when a file is not parquet, a column is missing, or an image cannot be decoded.
    """
    image, label, names, rows = "", "", [], []
    for path in files:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: not a parquet file ({error}); copy or download it again") from error
        schema = file.schema_arrow
        image, label = _column(path, schema, images, "image"), _column(path, schema, labels, "label")
        names = _class_names(schema, label)
        rows.append(file.metadata.num_rows)
    starts = [0, *accumulate(rows)][:-1]

    def source() -> ParquetSource:
        columns = [pq.read_table(path, columns=[image]).column(0) for path in files]
        # files of one dataset may differ in the type of an empty path, or in 32 or 64 bit offsets
        encoded = [chunk for c in columns for chunk in pc.struct_field(c, "bytes").cast(pa.large_binary()).chunks]
        return ParquetSource(files, starts, image, pa.chunked_array(encoded, pa.large_binary()))

    target = torch.cat([_labels(path, label) for path in files])
    return ArrayImages(decoded(files, source, len(target), shape, image), target, names)


def _column(path: Path, schema: pa.Schema, allowed: Sequence[str], kind: str) -> str:
    fits, form = (_has_bytes, "{bytes, path}") if kind == "image" else (pa.types.is_integer, "integers")
    for name in allowed:
        if name in schema.names and fits(schema.field(name).type):
            return name
    there = ", ".join(schema.names) or "none"
    raise ValueError(f"{path}: no {kind} column; {' or '.join(allowed)} must hold {form}, there is {there}")


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _labels(path: Path, label: str) -> torch.Tensor:
    column = pq.read_table(path, columns=[label]).column(0)
    if column.null_count:
        raise ValueError(f"{path}: {column.null_count} rows have no {label}; remove them")
    return torch.tensor(column.to_numpy(), dtype=torch.int64)


def _class_names(schema: pa.Schema, label: str) -> list[str]:
    """Return the class names that the hub writes into the file; none where it did not."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[label].get("names", [])]
    except (KeyError, ValueError):
        return []
