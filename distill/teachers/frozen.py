"""Frozen: a network with fixed weights as teacher, in eval mode, with its own normalisation and precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from distill.cache.manifest import tensor_hash, weights_hash
from distill.folding import fold
from distill.outputs import Anchors, Batch, InputSpec, Outputs, Spec, Words
from distill.taps import Tapped, introduce, source
from distill.teachers.base import Teacher

if TYPE_CHECKING:
    from distill.data.base import ImageData

PRECISIONS = {
    "32": torch.float32, "32-true": torch.float32, "64-true": torch.float64,
    "bf16": torch.bfloat16, "bf16-mixed": torch.bfloat16, "bf16-true": torch.bfloat16,
    "16": torch.float16, "16-mixed": torch.float16, "16-true": torch.float16,
}  # fmt: skip
"""Arithmetic of a teacher by Lightning's names of precisions; nothing of it is trained, so nothing is mixed."""


class Frozen(Teacher):
    """A trained network that only answers.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits ``(N, K)``; put in eval mode, gradients off.
        precision: dtype of its weights and its arithmetic, one of ``PRECISIONS``; outputs are float32.
        channels_last: as in :class:`~distill.taps.Tapped`.
        fold: fold batch normalisation into the convolutions before it, exact up to rounding.
        batch_norm: ``"eval"``: by the statistics of its training; ``"train"``: by those of each batch, as the public
            code of OFD leaves its teacher. Then nothing is folded, and answers that depend on a batch are not cached.

    Raises:
        ValueError: for another precision or batch_norm.
    """

    network: nn.Module
    recordable = True

    def __init__(
        self,
        network: nn.Module,
        precision: str | int = "32",
        channels_last: bool = True,
        fold: bool = True,
        batch_norm: str = "eval",
    ) -> None:
        if str(precision) not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if batch_norm not in ("eval", "train"):
            raise ValueError(f"batch_norm must be eval or train, got {batch_norm!r}")
        self.by_batch = batch_norm == "train"
        self.network = network.requires_grad_(False).eval()
        self.precision, self.dtype = str(precision), PRECISIONS[str(precision)]
        self.channels_last, self.fold = channels_last, fold and not self.by_batch
        self.input_spec: InputSpec | None = None
        self.tapped: Tapped | None = None

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        """Say how pixels are normalised for it and which features it returns.

        Raises:
            ValueError: when a tap does not exist.
        """
        self.input_spec = input_spec
        taps = list(taps)
        if self.by_batch:
            _forget_statistics(self.network)
        if self.fold:
            fold(self.network, [source(self.network, tap) for tap in taps])
        self.tapped = Tapped(self.network, input_spec, taps, self.channels_last).eval()

    def meet(self, data: ImageData) -> None:
        """Tell a network that reads what the classes are called and which texts there are.

        Raises:
            ValueError: when it cannot read them.
        """
        introduce(self.network, lambda: Words(data.classes, data.texts))

    @property
    def anchors(self) -> Anchors | None:
        found: Anchors | None = getattr(self.network, "anchors", None)
        return found

    def _reader(self) -> Tapped:
        if self.tapped is None:
            raise RuntimeError("call read() before using a teacher")
        return self.tapped

    def identity(self) -> Mapping[str, str]:
        """Return network, weights, normalisation, size of the input, precision, and where the classes stand.

        Raises:
            ValueError: when answers depend on the batch, so that there is nothing to know again.
        """
        if self.by_batch:
            raise ValueError(
                "batch_norm=train: the teacher's answers depend on the batch, so none are kept; set cache=off"
            )
        anchors = self.anchors
        named = {} if anchors is None else {"anchors": tensor_hash(anchors.text), "scale": f"{anchors.scale:.9g}"}
        return {
            **named,
            "network": type(self.network).__name__,
            "weights": weights_hash(self.network, self.dtype),
            "input": str(self.input_spec).replace(", mode='bilinear'", ""),  # as before there were other modes
            "precision": self.precision,
        }

    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        """Return the shapes of logits and taps for images ``(C, H, W)``."""
        return self._reader().specs(shape)

    def to(self, device: torch.device) -> None:
        """Move the network to ``device`` in its precision."""
        self._reader().to(device=device, dtype=self.dtype)

    @torch.inference_mode()
    def _answer(self, batch: Batch) -> Outputs:
        device = batch.inputs.device.type
        if not torch.is_autocast_enabled(device):
            return self._reader()(batch.inputs, batch.text)
        with torch.autocast(device, enabled=False):
            return self._reader()(batch.inputs, batch.text)

    @torch.no_grad()
    def look(self, batch: Batch, taps: Sequence[str]) -> Outputs:
        own = self._reader()
        assert self.input_spec is not None
        reader = Tapped(self.network, self.input_spec, taps, self.channels_last).eval()
        reader.to(device=own.scale.device, dtype=self.dtype)
        try:
            with torch.autocast(batch.inputs.device.type, enabled=False):
                found = reader(batch.inputs, batch.text)
                return Outputs(found.logits.float(), {name: value.float() for name, value in found.features.items()})
        finally:
            reader.release()

    def __call__(self, batch: Batch) -> Outputs:
        """Return logits and tapped features for a batch, float32, usable in a graph that trains a student."""
        outputs = self._answer(batch)
        # a tensor made under inference_mode may not be saved for backward; a float32 copy of it may
        return Outputs(
            outputs.logits.clone().float(), {name: value.clone().float() for name, value in outputs.features.items()}
        )


def _forget_statistics(network: nn.Module) -> None:
    """Leave batch normalisation nothing but the batch to go by, whether it is in evaluation mode or not."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean = module.running_var = None
