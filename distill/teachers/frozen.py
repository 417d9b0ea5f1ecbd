"""Frozen: a network with fixed weights as teacher, in eval mode, with its own normalisation and precision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from distill.cache.manifest import weights_hash
from distill.outputs import Batch, InputSpec, Outputs, Spec
from distill.taps import Tapped
from distill.teachers.base import Teacher

PRECISIONS = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


class Frozen(Teacher):
    """A trained network that only answers.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits ``(N, K)``; put in eval mode, gradients off.
        precision: ``"32"``, ``"bf16"`` or ``"16"``: dtype of its weights and its arithmetic; outputs are float32.

    Raises:
        ValueError: for another precision.
    """

    def __init__(self, network: nn.Module, precision: str = "32") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.network = network.requires_grad_(False).eval()
        self.dtype = PRECISIONS[precision]
        self.precision = precision
        self.input_spec: InputSpec | None = None
        self.tapped: Tapped | None = None

    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        """Say how pixels are normalised for it and which features it returns.

        Raises:
            ValueError: when a tap does not exist.
        """
        self.input_spec = input_spec
        self.tapped = Tapped(self.network, input_spec, taps).eval()

    def _reader(self) -> Tapped:
        if self.tapped is None:
            raise RuntimeError("call read() before using a teacher")
        return self.tapped

    def identity(self) -> Mapping[str, str]:
        """Return network, weights, normalisation, size of the input, and precision."""
        return {
            "network": type(self.network).__name__,
            "weights": weights_hash(self.network, self.dtype),
            "input": str(self.input_spec),
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
        with torch.autocast(batch.inputs.device.type, enabled=False):
            return self._reader()(batch.inputs)

    def __call__(self, batch: Batch) -> Outputs:
        """Return logits and tapped features for a batch, float32, usable in a graph that trains a student."""
        outputs = self._answer(batch)
        # a tensor made under inference_mode may not be saved for backward; a float32 copy of it may
        return Outputs(
            outputs.logits.clone().float(), {name: value.clone().float() for name, value in outputs.features.items()}
        )
