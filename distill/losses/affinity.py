"""Affinity mimicking: match how much each image of a batch goes with each text, and each text with each image.

Wu et al., "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance", ICCV 2023 (arXiv:2309.12314):
``1/2 [CE(softmax(s v_t t_t'), s v_s t_s') + CE(softmax(s t_t v_t'), s t_s v_s')]``, cross-entropies with the teacher's
probabilities, of vectors of length 1 of images v and texts t. A student without a text tower has the teacher's texts.

Known to go wrong: the texts' distributions are softmaxes of the transposed scores, not transposed softmaxes, whose rows
would sum to anything; the value is not 0 at the teacher but its entropy; the published runs set the scale of both
networks to 50 whatever they have learned. With ``scale: null`` it is the teacher's own, on both sides.
"""

import torch.nn.functional as F
from torch import Tensor

from distill.losses.base import require_positive
from distill.losses.image_text import Embedded, ImageText
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def affinity(vectors: Embedded, scale: float) -> Tensor:
    """Return the cross-entropy with the teacher's affinities, of images and of texts, averaged over the batch.

    Args:
        vectors: of length 1 ``(N, D)``.
        scale: s, what cosines are multiplied by.
    """
    mine, other = (scale * a @ b.T for a, b in ((vectors.image_s, vectors.text_s), (vectors.image_t, vectors.text_t)))
    return (F.cross_entropy(mine, other.softmax(1)) + F.cross_entropy(mine.T, other.T.softmax(1))) / 2


class Affinity(ImageText):
    """Affinities of a batch.

    Args:
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.
        texts: ``"captions"`` of the batch, or ``"classes"``: the text vector of each sample's class.
        student_text_tap: the student's vector of a caption; None for a student that embeds none.
        teacher_text_tap: the teacher's vector of a caption.
        scale: s of both networks; None for the teacher's own.
        gather: compare the samples of all processes.

    Raises:
        ValueError: for other texts, or a scale that is not above 0.
    """

    mixes = False

    def __init__(
        self,
        student_tap: str = "image_embedding",
        teacher_tap: str = "image_embedding",
        texts: str = "captions",
        student_text_tap: str | None = None,
        teacher_text_tap: str = "text_embedding",
        scale: float | None = 50.0,
        gather: bool = True,
    ) -> None:
        super().__init__(student_tap, teacher_tap, texts, student_text_tap, teacher_text_tap, gather)
        if scale is not None:
            require_positive("scale", scale)
        self.scale = scale

    def needs_classes(self) -> bool:
        return self.scale is None or super().needs_classes()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            return affinity(self.embedded(student, teacher, batch), self.scaled(self.scale))
