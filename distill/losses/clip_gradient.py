"""CLIP-KD GD: match the gradients that the contrastive loss has at the vectors of student and teacher.

Yang et al., "CLIP-KD: An Empirical Study of CLIP Model Distillation", CVPR 2024 (arXiv:2307.12732), gradient
distillation: the squared differences, averaged over batch and entries, of ``dL/dv = s / B (P - Y) t`` and
``dL/dt = s / B (P - Y)' v`` with ``P = softmax(s v t')`` and targets Y, of the images' loss and of the texts', four
terms. Vectors have length 1; a student without a text tower has the teacher's texts.

Known to go wrong: the published code divides by the scale where the paper multiplies, so its gradients are s^2 times
smaller and its weight (1e8, for s = 100) belongs to them: ``strict_reference``, with that weight. With few captions, or
classes in their place, many samples of a batch have the same text; all of these are right here, in equal shares.
"""

from torch import Tensor

from distill.losses.base import require_positive
from distill.losses.image_text import Embedded, ImageText, alone, shares
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def gradients(queries: Tensor, keys: Tensor, target: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the gradients of the mean cross-entropy of ``scale * queries @ keys.T`` at queries and keys ``(N, D)``.

    Args:
        queries: ``(N, D)``.
        keys: ``(N, D)``.
        target: probability of each key ``(N, N)``.
        scale: what products are multiplied by.
    """
    wrong = ((scale * queries @ keys.T).softmax(1) - target) * (scale / len(queries))
    return wrong @ keys, wrong.T @ queries


def clip_gradient(vectors: Embedded, scale: float) -> Tensor:
    """Return the squared difference of the contrastive gradients of both networks, four terms.

    Args:
        vectors: of length 1 ``(N, D)``.
        scale: s, what cosines are multiplied by.
    """
    target = shares(vectors.same)
    total = vectors.image_s.new_zeros(())
    for (a, b), (c, d) in (
        ((vectors.image_s, vectors.text_s), (vectors.image_t, vectors.text_t)),
        ((vectors.text_s, vectors.image_s), (vectors.text_t, vectors.image_t)),
    ):
        pairs = zip(gradients(a, b, target, scale), gradients(c, d, target, scale), strict=True)
        total = total + sum((mine - other).square().mean() for mine, other in pairs)
    return total


class CLIPGradient(ImageText):
    """Gradients of the contrastive loss.

    Args:
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.
        texts: ``"captions"`` of the batch, or ``"classes"``: the text vector of each sample's class.
        student_text_tap: the student's vector of a caption; None for a student that embeds none.
        teacher_text_tap: the teacher's vector of a caption.
        scale: s of both networks; None for the teacher's own.
        strict_reference: divide by the scale, and one text is right for each sample, as in the authors' code.
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
        strict_reference: bool = False,
        gather: bool = True,
    ) -> None:
        super().__init__(student_tap, teacher_tap, texts, student_text_tap, teacher_text_tap, gather)
        if scale is not None:
            require_positive("scale", scale)
        self.scale, self.strict_reference = scale, strict_reference

    def needs_classes(self) -> bool:
        return self.scale is None or super().needs_classes()

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            vectors, scale = self.embedded(student, teacher, batch), self.scaled(self.scale)
            if self.strict_reference:
                return clip_gradient(vectors._replace(same=alone(vectors.same)), 1 / scale)
            return clip_gradient(vectors, scale)
