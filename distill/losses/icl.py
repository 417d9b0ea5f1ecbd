"""ICL: contrast the student's images with the teacher's texts, and its texts with the teacher's images.

Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024 (arXiv:2307.12732), interactive
contrastive learning: ``1/2 [CE(c v_s t_t') + CE(c t_s v_t')]`` with vectors of length 1, of images v and texts t, and a
trained scale c that starts at 1 / 0.07. For a student without a text tower the second term contrasts each of the
teacher's texts with the student's images, ``CE(c t_t v_s')``.

Known to go wrong: with few captions, or classes in their place, many samples of a batch have the same text, which the
paper's one-hot target takes for a wrong one; here all that are the same are right, in equal shares. The published code
takes the logarithm of the scale for the scale, which starts at 2.66 and not 14.3. ``strict_reference`` does both.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import require_positive
from distill.losses.image_text import Embedded, ImageText, alone, shares
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def icl(vectors: Embedded, scale: Tensor, reads_text: bool = True) -> Tensor:
    """Return the contrast of the student with the other modality of the teacher, averaged over the batch.

    Args:
        vectors: of length 1 ``(N, D)``.
        scale: c, of shape ().
        reads_text: whether the student has texts of its own.
    """
    target = shares(vectors.same)
    first = scale * vectors.image_s @ vectors.text_t.T
    second = scale * vectors.text_s @ vectors.image_t.T if reads_text else first.T
    return (F.cross_entropy(first, target) + F.cross_entropy(second, target)) / 2


class ICL(ImageText):
    """Contrast across networks.

    Args:
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.
        texts: ``"captions"`` of the batch, or ``"classes"``: the text vector of each sample's class.
        student_text_tap: the student's vector of a caption; None for a student that embeds none.
        teacher_text_tap: the teacher's vector of a caption.
        tau: 1 / c at the start.
        strict_reference: one text is right for each sample, and the scale is log c.
        gather: contrast the samples of all processes.

    Raises:
        ValueError: for other texts, or a tau that is not above 0.
    """

    mixes = False

    def __init__(
        self,
        student_tap: str = "image_embedding",
        teacher_tap: str = "image_embedding",
        texts: str = "captions",
        student_text_tap: str | None = None,
        teacher_text_tap: str = "text_embedding",
        tau: float = 0.07,
        strict_reference: bool = False,
        gather: bool = True,
    ) -> None:
        super().__init__(student_tap, teacher_tap, texts, student_text_tap, teacher_text_tap, gather)
        require_positive("tau", tau)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / tau)))
        self.strict_reference = strict_reference

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            vectors = self.embedded(student, teacher, batch)
            if self.strict_reference:
                vectors = vectors._replace(same=alone(vectors.same))
            scale = self.log_scale if self.strict_reference else self.log_scale.exp()
            return icl(vectors, scale, self.student_text_tap is not None)
