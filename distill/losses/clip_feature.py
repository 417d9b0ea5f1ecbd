"""CLIP-KD FD: bring the student's vector of an image to where an image-text teacher has it.

Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024 (arXiv:2307.12732), feature
distillation: ``mean_bd (v_s - v_t)^2`` of vectors of length 1, over batch and entries; with a student that embeds text
too the same of the texts is added. ``distance=cosine``: ``1 - cos(v_s, v_t)``, which is D / 2 times that.

Known to go wrong: the mean over entries makes the published weight (2000) belong to D = 512, where it is 7.8 times one
minus the cosine; with D = 64 it is 62 times. In the authors' table it is worth more than their other terms together.
"""

import torch
from torch import Tensor

from distill.losses.base import Loss, require_teacher
from distill.losses.image_text import require_one_space
from distill.losses.tap_pair import full_precision, unit
from distill.outputs import Batch, Outputs, Specs

DISTANCES = ("mse", "cosine")


def clip_feature(student: Tensor, teacher: Tensor, distance: str = "mse") -> Tensor:
    """Return the distance of vectors brought to length 1, averaged over the batch.

    Args:
        student: ``(N, D)``.
        teacher: ``(N, D)``; receives no gradient.
        distance: ``"mse"``, averaged over entries too, or ``"cosine"``.
    """
    s, t = unit(student.float()), unit(teacher.detach().float())
    return (s - t).square().mean() if distance == "mse" else 1 - (s * t).sum(1).mean()


class CLIPFeature(Loss):
    """Distance of vectors in the teacher's embedding space.

    Args:
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.
        student_text_tap: the student's vector of a caption; None for a student that embeds none.
        teacher_text_tap: the teacher's vector of a caption, read where the student has one.
        distance: ``"mse"``, the paper's, or ``"cosine"``.

    Raises:
        ValueError: for another distance.
    """

    def __init__(
        self,
        student_tap: str = "image_embedding",
        teacher_tap: str = "image_embedding",
        student_text_tap: str | None = None,
        teacher_text_tap: str = "text_embedding",
        distance: str = "mse",
    ) -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise ValueError(f"distance must be one of {', '.join(DISTANCES)}, got {distance!r}")
        self.pairs = [(student_tap, teacher_tap)]
        if student_text_tap is not None:
            self.pairs.append((student_text_tap, teacher_text_tap))
        self.distance = distance

    def student_taps(self) -> tuple[str, ...]:
        return tuple(mine for mine, _ in self.pairs)

    def teacher_taps(self) -> tuple[str, ...]:
        return tuple(other for _, other in self.pairs)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        for mine, other in self.pairs:
            require_one_space(student, teacher, mine, other)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        with full_precision(student.logits):
            values = [clip_feature(student.features[a], teacher.features[b], self.distance) for a, b in self.pairs]
            return torch.stack(values).sum()
