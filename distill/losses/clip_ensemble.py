"""CLIP ensemble: match how several image-text teachers relate images and captions, each by its own scale.

Vasu et al., "MobileCLIP: Fast Image-Text Models through Multi-Modal Reinforced Training", CVPR 2024 (arXiv:2311.17049),
equations 3 and 4: ``1/2 [1/M sum_m KL(softmax(s_m V_m T_m') || softmax(s V T')) + 1/M sum_m KL(softmax(s_m T_m V_m') ||
softmax(s T V'))]`` over M teachers, with vectors V of images and T of captions of length 1, each model's in a space of
its own. Its gradient is that of the cross-entropy with the mean of the teachers' probabilities, from which it differs
by a constant: teachers are averaged after their softmax, not before it.

Known to go wrong: the texts' distributions are softmaxes of the transposed scores; public code transposes the averaged
softmax of the images where it gathers over processes, whose rows sum to anything. The published runs give the teachers
s = 100 whatever they have learned; here each has its own unless told otherwise (``scale``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from distill.losses.base import find_spec, require_positive, require_teacher
from distill.losses.clip_relation import relation
from distill.losses.contrastive import Embedded
from distill.losses.gathering import gather
from distill.losses.image_text import class_vectors
from distill.losses.tap_pair import full_precision, unit
from distill.outputs import Batch, Outputs, Specs, TrainingSet


def clip_ensemble(scores: Tensor, teachers: Sequence[Tensor]) -> Tensor:
    """Return the divergence from each teacher's relations to the student's, averaged over teachers and directions.

    Args:
        scores: of the student ``(N, N)``, cosines of images (rows) and captions times s.
        teachers: of each teacher ``(N, N)``, likewise.
    """
    return torch.stack([relation(scores, other) for other in teachers]).mean()


class CLIPEnsemble(Embedded):
    """Relations of a batch, of any number of image-text teachers.

    In a distributed run each process compares the samples of all.

    Args:
        teachers: names of the teachers to learn from: the only one, or two and more of them. One of several is taught
            from by ``clip_relation``, whose taps name it.
        image_tap: name of the image embedding, a vector, in the student and in every teacher.
        text_tap: name of the embedding of the captions, likewise.
        scale_tap: name of the student's s, one number a sample.
        scale: s of every teacher, 100 in the published runs; None for each one's own.

    Raises:
        ValueError: without a teacher, or for a scale that is not above 0.
    """

    reads_teacher: ClassVar[bool] = True

    def __init__(
        self,
        teachers: Sequence[str],
        image_tap: str = "image_embedding",
        text_tap: str = "text_embedding",
        scale_tap: str = "scale",
        scale: float | None = None,
    ) -> None:
        super().__init__(image_tap, text_tap, scale_tap, "caption")
        if not teachers:
            raise ValueError("teachers must name at least one; choose image-text teachers with teacher=[clip,...]")
        if scale is not None:
            require_positive("scale", scale)
        self.teachers, self.scale = tuple(teachers), scale
        self.scales: tuple[float, ...] = ()

    def _pairs(self) -> list[tuple[str, str]]:
        """Return the taps of each teacher, of images and of captions."""
        if len(self.teachers) == 1:
            return [(self.image_tap, self.text_tap)]
        return [(f"{name}/{self.image_tap}", f"{name}/{self.text_tap}") for name in self.teachers]

    def teacher_taps(self) -> tuple[str, ...]:
        return tuple(tap for pair in self._pairs() for tap in pair)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        super().prepare(student, teacher)
        for image, text in self._pairs():
            a, b = (find_spec(teacher, tap, "teacher").shape for tap in (image, text))
            if len(a) != 1 or a != b:
                raise ValueError(
                    f"teacher taps {image!r} of shape {a} and {text!r} of shape {b} must be vectors of one length; an "
                    "image-text teacher such as teacher=[clip] has such taps"
                )

    def meet(self, data: TrainingSet) -> None:
        if self.scale is None:
            unknown = [name for name in self.teachers if data.anchors and name not in data.anchors]
            if unknown:
                raise ValueError(
                    f"teachers: {unknown[0]!r} is no image-text teacher here; choose of {', '.join(data.anchors)}"
                )
            self.scales = tuple(class_vectors(data, image).scale for image, _ in self._pairs())
        else:
            self.scales = (self.scale,) * len(self.teachers)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            image, text, scale, _ = self.gathered(student, batch)
            told = require_teacher(teacher).features
            others = [
                s * gather(unit(told[a].detach().float())) @ gather(unit(told[b].detach().float())).T
                for s, (a, b) in zip(self.scales, self._pairs(), strict=True)
            ]
            return clip_ensemble(scale[:, None] * (image @ text.T), others)
