"""CLIP: pull an image and its caption together, away from the other captions and images of the batch.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021 (arXiv:2103.00020),
figure 3: ``1/2 [CE(s V T^T, I) + CE(s T V^T, I)]`` with image and text embeddings V, T of length 1 and a learned s.
Samples with the same caption are no negatives of each other: the target is spread evenly over them, as in Yang et al.,
"Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022 (arXiv:2204.03610), equations 2 to 4.

Known to go wrong: with the identity as target, identical captions are pushed apart that no text tower can tell apart,
and a batch of few classes learns little else. s used as it is kept, without exp, starts at 2.66 and not at 14.3.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import Loss, find_spec
from distill.losses.gathering import gather
from distill.losses.tap_pair import full_precision, unit
from distill.outputs import Batch, Outputs, Specs

POSITIVES = ("caption", "class")


def contrastive(image: Tensor, text: Tensor, scale: Tensor, group: Tensor) -> Tensor:
    """Return the mean cross-entropy of images among texts and of texts among images.

    Args:
        image: embeddings of length 1 ``(N, D)``.
        text: embeddings of length 1 ``(N, D)``.
        scale: s of each sample ``(N,)``.
        group: samples with equal numbers belong together ``(N,)``.
    """
    cosines = image @ text.T
    target = (group[:, None] == group).to(cosines.dtype)
    target = target / target.sum(1, keepdim=True)  # symmetric, so it serves both directions
    return (F.cross_entropy(scale[:, None] * cosines, target) + F.cross_entropy(scale[:, None] * cosines.T, target)) / 2


def groups(positives: str, batch: Batch, device: torch.device) -> Tensor:
    """Return a number for each sample ``(N,)``, equal where samples are positives of each other.

    Args:
        positives: ``"caption"``: where captions are the same; ``"class"``: where classes are.
        batch: its captions, or without them its samples, each of which then stands for itself.
        device: where the numbers are to be.
    """
    if positives == "class":
        return batch.target.to(device)
    return (batch.index if batch.text is None else batch.text).to(device)


class Embedded(Loss):
    """Base of losses over the embeddings of images and their captions, which the student itself makes.

    In a distributed run each process compares the samples of all, so the loss is that of one process with the whole
    batch.

    Args:
        image_tap: name of the student's image embedding, a vector.
        text_tap: name of its embedding of the captions, of the same length.
        scale_tap: name of s, one number a sample.
        positives: what a sample belongs together with: those of the same ``"caption"``, or of the same ``"class"``.

    Raises:
        ValueError: for other positives.
    """

    reads_teacher: ClassVar[bool] = False
    mixes: ClassVar[bool] = False

    def __init__(self, image_tap: str, text_tap: str, scale_tap: str, positives: str) -> None:
        super().__init__()
        if positives not in POSITIVES:
            raise ValueError(f"positives must be one of {', '.join(POSITIVES)}, got {positives!r}")
        self.image_tap, self.text_tap, self.scale_tap, self.positives = image_tap, text_tap, scale_tap, positives

    def student_taps(self) -> tuple[str, ...]:
        return self.image_tap, self.text_tap, self.scale_tap

    def prepare(self, student: Specs, teacher: Specs) -> None:
        image, text = (find_spec(student, name, "student").shape for name in (self.image_tap, self.text_tap))
        scale = find_spec(student, self.scale_tap, "student").shape
        if len(image) != 1 or image != text or scale:
            raise ValueError(
                f"image_tap {self.image_tap!r} of shape {image} and text_tap {self.text_tap!r} of shape {text} must be "
                f"vectors of one length, and scale_tap {self.scale_tap!r} of shape {scale} a number; "
                "student=clip_small has such taps"
            )

    def gathered(self, student: Outputs, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return embeddings of length 1, s and groups of the samples of all processes."""
        image, text, scale = (student.features[name].float() for name in self.student_taps())
        group = groups(self.positives, batch, image.device)
        return gather(unit(image)), gather(unit(text)), gather(scale), gather(group)


class Contrastive(Embedded):
    """Softmax contrast between images and captions, both ways.

    Args:
        image_tap: name of the student's image embedding, a vector.
        text_tap: name of its embedding of the captions, of the same length.
        scale_tap: name of s, one number a sample.
        positives: what a sample belongs together with: those of the same ``"caption"``, or of the same ``"class"``.

    Raises:
        ValueError: for other positives.
    """

    def __init__(
        self,
        image_tap: str = "image_embedding",
        text_tap: str = "text_embedding",
        scale_tap: str = "scale",
        positives: str = "caption",
    ) -> None:
        super().__init__(image_tap, text_tap, scale_tap, positives)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            return contrastive(*self.gathered(student, batch))
