"""VL2V-ADiP: turn the student's vector to both the teacher's vector of the image and that of its text.

Addepalli et al., "Leveraging Vision-Language Models for Improving Domain Generalization in Image Classification", CVPR
2024 (arXiv:2310.08255), alignment and distillation: ``lam (1 - cos(v_s, v_t)) + (1 - lam) (1 - cos(v_s, t_t))`` with
the teacher's text vector t of the image's class, averaged over the batch; one more than the paper's value, which is
made of cosines with a minus and is below 0.

Known to go wrong: the paper trains the projector alone at first, with the backbone fixed, then the backbone alone; that
takes two runs (``ckpt_path``), and its classifier is the text vectors (``student.anchored=true``). ``lam`` is 0.5 for
domain generalisation and 0.1 in the authors' note for data like those that the backbone knows.
"""

from torch import Tensor

from distill.losses.image_text import Embedded, ImageText
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def image_text_cosine(vectors: Embedded, lam: float) -> Tensor:
    """Return one minus the cosine with image and text, weighted, averaged over the batch.

    Args:
        vectors: of length 1 ``(N, D)``.
        lam: share of the image; the rest is the text's.
    """
    aim = lam * vectors.image_t + (1 - lam) * vectors.text_t
    return 1 - (vectors.image_s * aim).sum(1).mean()


class ImageTextCosine(ImageText):
    """Cosines with image and text.

    Args:
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.
        texts: ``"classes"``: the text vector of each sample's class, the paper's; or ``"captions"`` of the batch.
        teacher_text_tap: the teacher's vector of a caption, read with captions only.
        lam: lambda, share of the image; the rest is the text's.

    Raises:
        ValueError: for other texts, or a lambda outside [0, 1].
    """

    mixes = False

    def __init__(
        self,
        student_tap: str = "image_embedding",
        teacher_tap: str = "image_embedding",
        texts: str = "classes",
        teacher_text_tap: str = "text_embedding",
        lam: float = 0.5,
    ) -> None:
        super().__init__(student_tap, teacher_tap, texts, None, teacher_text_tap, gather=False)
        if not 0 <= lam <= 1:
            raise ValueError(f"lam must be in [0, 1], got {lam:g}; it is the share of the image")
        self.lam = lam

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            return image_text_cosine(self.embedded(student, teacher, batch), self.lam)
