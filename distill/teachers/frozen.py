"""Frozen: a network with fixed weights as teacher, in eval mode, with its own normalisation and precision."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from distill.folding import fold
from distill.outputs import Batch, InputSpec, Outputs, Spec
from distill.taps import Tapped, published
from distill.teachers.base import Teacher

PRECISIONS = {"auto": None, "32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class Frozen(Teacher):
    """A trained network that only answers.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits ``(N, K)``; put in eval mode, gradients off.
        precision: ``"32"``, ``"bf16"`` or ``"16"``: dtype of its weights and its arithmetic; ``"auto"``: 32, but what
            autocast has where the student trains under it. Outputs are float32.
        channels_last: as in :class:`~distill.taps.Tapped`.
        fold: fold batch normalisation into the convolutions before it, exact up to rounding.

    Raises:
        ValueError: for another precision.
    """

    def __init__(
        self, network: nn.Module, precision: str = "auto", channels_last: bool = True, fold: bool = True
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.network = network.requires_grad_(False).eval()
        self.automatic = precision == "auto"
        self.dtype = PRECISIONS[precision] or torch.float32
        self.channels_last, self.fold = channels_last, fold
        self.tapped: Tapped | None = None

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        """Say how pixels are normalised for it and which features it returns.

        Raises:
            ValueError: when a tap does not exist.
        """
        taps = list(taps)
        if self.fold:
            fold(self.network, [published(self.network).get(tap, tap) for tap in taps])
        self.tapped = Tapped(self.network, input_spec, taps, self.channels_last).eval()

    def _reader(self) -> Tapped:
        if self.tapped is None:
            raise RuntimeError("call read() before using a teacher")
        return self.tapped

    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        """Return the shapes of logits and taps for images ``(C, H, W)``."""
        return self._reader().specs(shape)

    def to(self, device: torch.device) -> None:
        """Move the network to ``device`` in its precision."""
        self._reader().to(device=device, dtype=self.dtype)

    @torch.inference_mode()
    def _answer(self, batch: Batch) -> Outputs:
        with torch.autocast(batch.inputs.device.type, enabled=False):
            return self._reader()(batch.inputs)

    def __call__(self, batch: Batch) -> Outputs:
        """Return logits and tapped features for a batch, float32, usable in a graph that trains a student."""
        device = batch.inputs.device.type
        if self.automatic and torch.is_autocast_enabled(device) and self.dtype == torch.float32:
            self.dtype = torch.get_autocast_dtype(device)
            self.to(batch.inputs.device)
        outputs = self._answer(batch)
        # a tensor made under inference_mode may not be saved for backward; a float32 copy of it may
        return Outputs(
            outputs.logits.clone().float(), {name: value.clone().float() for name, value in outputs.features.items()}
        )
