"""Controls: take what is specific away from a teacher, to see what of a gain is left."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from distill.outputs import Outputs

Change = Callable[[Tensor, int], Tensor]


def _generator(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def derangement(samples: int, seed: int, device: torch.device) -> Tensor:
    """Return a random permutation of so many samples that leaves none in its place, if there are at least two."""
    order = torch.randperm(samples, generator=_generator(seed, device), device=device)
    source = torch.empty_like(order)
    source[order] = order.roll(1)  # one cycle through all of them
    return source


def shuffled(value: Tensor, seed: int) -> Tensor:
    """Return the rows of a teacher's output in another order, each at another sample; same seed, same order."""
    return value[derangement(len(value), seed, value.device)]


def uniform(value: Tensor, seed: int) -> Tensor:
    """Return the mean over the batch at every sample: all that a teacher says which is not about the sample."""
    return torch.zeros_like(value) + value.mean(0, keepdim=True)


def noise(value: Tensor, seed: int) -> Tensor:
    """Return Gaussian noise with the mean and the standard deviation that all numbers of a tensor have together."""
    drawn = torch.empty_like(value).normal_(generator=_generator(seed, value.device))
    return drawn * value.std(correction=0) + value.mean()


CHANGES: dict[str, Change] = {"shuffled_teacher": shuffled, "uniform_teacher": uniform, "random_teacher": noise}
"""What is done to features, by the names of the root key ``control``."""


def controlled(outputs: Outputs, control: str, seed: int) -> Outputs:
    """Return what a student is told instead of a teacher's outputs.

    Args:
        outputs: of the teacher, or of several joined.
        control: ``shuffled_teacher`` permutes logits and features alike over the batch, no sample keeping its own;
            what is left is regularisation. ``uniform_teacher`` has equal probabilities and the mean features of the
            batch. ``random_teacher`` has noise with the mean and standard deviation of the batch, in each tensor.
        seed: decides every draw, by the name of the tensor too, so that who else reads which tap changes nothing.

    Returns:
        Outputs of the same shapes; the given ones are unchanged. A batch of one sample cannot be shuffled.
    """
    change = CHANGES[control]

    def draw(name: str) -> int:
        return seed if control == "shuffled_teacher" else seed ^ zlib.crc32(name.encode())

    logits = torch.zeros_like(outputs.logits) if control == "uniform_teacher" else change(outputs.logits, draw(""))
    features = {name: change(value, draw(name)) for name, value in outputs.features.items()}
    views = {name: controlled(view, control, draw(name)) for name, view in outputs.views.items()}
    return Outputs(logits, features, views)
