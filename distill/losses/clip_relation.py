"""CLIP-KD CRD: match the teacher's distribution of texts for each image and of images for each text.

Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024 (arXiv:2307.12732), contrastive
relational distillation: ``1/2 [KL(softmax(s v_t t_t') || softmax(s v_s t_s')) + KL(softmax(s t_t v_t') ||
softmax(s t_s v_s'))]`` with vectors of length 1, of images v and texts t, T = 1, averaged over the batch. A student
without a text tower has the teacher's texts.

Known to go wrong: its abbreviation is that of another method, the loss ``crd`` here. It differs from affinity mimicking
by the teacher's entropy, a constant, and by the scale: each network's own in the paper, the teacher's on both sides
here (``scale``), because a student that embeds no text has none. The published code cannot run on one GPU.
"""

from torch import Tensor

from distill.losses.base import require_positive
from distill.losses.image_text import Embedded, ImageText
from distill.losses.soft import divergence
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def relation(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence from the teacher's to the student's relations, of images and of texts.

    Args:
        student: cosines of images (rows) and texts times s ``(N, N)``.
        teacher: likewise.
    """
    images = divergence(student.log_softmax(1), teacher.log_softmax(1))
    return (images + divergence(student.T.log_softmax(1), teacher.T.log_softmax(1))) / 2


def clip_relation(vectors: Embedded, scale: float) -> Tensor:
    """Return :func:`relation` of the samples of a batch.

    Args:
        vectors: of length 1 ``(N, D)``.
        scale: s, what cosines are multiplied by.
    """
    return relation(scale * vectors.image_s @ vectors.text_s.T, scale * vectors.image_t @ vectors.text_t.T)


class CLIPRelation(ImageText):
    """Relations of a batch.

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
        scale: float | None = None,
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
            return clip_relation(self.embedded(student, teacher, batch), self.scaled(self.scale))
