"""Layout: how the values of one record become 64-bit words with a checksum, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.keyed import mix

Fields = Mapping[str, tuple[str, int]]
"""dtype and length of each vector of a record, by name, in order."""
Words = NDArray[np.uint64]

DTYPES = {
    "float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32,
    "int16": torch.int16, "int32": torch.int32,
}  # fmt: skip
_WORD = 8  # bytes
_HALF = np.uint64(32)


class Layout:
    """Where each field of a record lies; every field starts at a whole word, so that it can be viewed in its dtype.

    Args:
        fields: what a record holds.
    """

    def __init__(self, fields: Fields) -> None:
        self.fields = dict(fields)
        self.starts: dict[str, int] = {}
        words = 0
        for name, (dtype, size) in self.fields.items():
            self.starts[name] = words
            words += -(-size * DTYPES[dtype].itemsize // _WORD)
        self.words = words
        # odd, so that any change of a single word changes the sum
        factors = mix(torch.arange(words + 1)).bitwise_or_(1).numpy().view(np.uint64)
        self._slot_factor, self._factors = factors[0], factors[1:].copy()

    def encode(self, values: Mapping[str, Tensor]) -> Words:
        """Return the records ``(n, words)`` of values ``(n, size)``.

        Raises:
            ValueError: when a value is not finite in the dtype that is kept.
        """
        parts = []
        for name, (dtype, size) in self.fields.items():
            value = values[name].detach().cpu()
            kept = value.to(DTYPES[dtype])
            if not bool(kept.isfinite().all()):
                largest = value.abs().max().item()
                raise ValueError(
                    f"the teacher's {name} reach {largest:.3g}, which {dtype} cannot hold; set cache.dtype=float32"
                    if value.isfinite().all()
                    else f"the teacher's {name} are not finite; look at its weights and its normalisation"
                )
            raw = kept.contiguous().view(torch.uint8)
            padding = -size * DTYPES[dtype].itemsize % _WORD
            parts.append(torch.nn.functional.pad(raw, (0, padding)))
        return torch.cat(parts, 1).contiguous().numpy().view(np.uint64)

    def decode(self, records: Words) -> dict[str, Tensor]:
        """Return the values ``(n, size)`` of records: float32, and int64 of integer fields."""
        whole = torch.from_numpy(records.view(np.int64))
        values = {}
        for name, (dtype, size) in self.fields.items():
            kind = DTYPES[dtype]
            start = self.starts[name] * _WORD // kind.itemsize
            value = whole.view(kind)[:, start : start + size]
            values[name] = value.to(torch.float32 if kind.is_floating_point else torch.int64).contiguous()
        return values

    def checksums(self, records: Words, slots: NDArray[np.int64]) -> NDArray[np.uint32]:
        """Return the checksum of each record at its slot ``(n,)``, from 1 up: 0 stands for a slot without a record.

        The upper half of a multilinear sum modulo 2**64. Each word is folded first, or changes of the highest bits of
        two words would cancel; the slot is part of the sum, so a record in another's place is wrong there.
        """
        folded = records ^ (records >> _HALF)
        sums = (folded @ self._factors) + slots.view(np.uint64) * self._slot_factor
        return np.maximum((sums >> _HALF).astype(np.uint32), 1)
