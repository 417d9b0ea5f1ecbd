"""Teacher: what a distillation module needs of one, whatever it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from distill.outputs import Anchors, Batch, InputSpec, Outputs, Spec

if TYPE_CHECKING:
    from distill.data.base import ImageData


class Teacher(ABC):
    """Gives outputs for a batch. Not an ``nn.Module``, so a LightningModule that holds it does not own its weights.

    Attributes:
        network: what answers, for whoever reuses parts of it; None where there is none.
        dtype: of its arithmetic.
        recordable: whether an answer is arithmetic on the device and nothing else, so that a CUDA graph can hold it.
    """

    network: nn.Module | None = None
    dtype: torch.dtype = torch.float32
    recordable: bool = False

    def __deepcopy__(self, memo: dict[int, object]) -> Teacher:
        # weight averaging copies the module that holds a teacher; a teacher never changes, so one is enough
        return self

    @abstractmethod
    def read(self, input_spec: InputSpec, taps: Iterable[str]) -> None:
        """Say how pixels are normalised for it and which features it returns; called once, before anything else.

        Raises:
            ValueError: when a tap does not exist.
        """

    @property
    def anchors(self) -> Anchors | None:
        """Where the classes stand in its embedding space, after :meth:`meet`; None for one that embeds no text."""
        return None

    @property
    def sees_pixels(self) -> bool:
        """Whether it answers for any image, and not only for the training samples that it has answers for."""
        return True

    def meet(self, data: ImageData) -> None:  # noqa: B027 - not abstract, for most teachers have nothing to do
        """See the data it will be asked about, after :meth:`read`; nothing to do for one that looks at pixels alone.

        Raises:
            ValueError: when it has no answer for a training sample.
        """

    def prefetch(self, batches: Sequence[Batch]) -> None:  # noqa: B027
        """Expect these batches next; nothing to do unless answers can be had for many batches at once."""

    def identity(self) -> Mapping[str, str]:
        """Return what decides its answers, each part by name, so that a cache of them can be told from others.

        Raises:
            ValueError: when it does not say, and so cannot be cached.
        """
        raise ValueError(f"{type(self).__name__} does not say what decides its answers, so set cache=off")

    @abstractmethod
    def __call__(self, batch: Batch) -> Outputs:
        """Return logits and tapped features for a batch, without a graph."""

    def look(self, batch: Batch, taps: Sequence[str]) -> Outputs:
        """Return logits and these features for a batch, whichever it was told to return; for evaluation.

        Raises:
            ValueError: when it has no network to look into.
        """
        raise ValueError(f"{type(self).__name__} has no network, so it has no {', '.join(taps)}")

    @abstractmethod
    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        """Return the shapes of logits and taps for images ``(C, H, W)``."""

    @abstractmethod
    def to(self, device: torch.device) -> None:
        """Move whatever the teacher computes with to ``device``."""
