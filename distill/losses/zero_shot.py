"""Zero-shot KD: classify with the teacher's text vectors on both sides; takes no labels and no classifier.

Li et al., "PromptKD: Unsupervised Prompt Distillation for Vision-Language Models", CVPR 2024 (arXiv:2403.02781), the
class vectors of the teacher used for both: ``T^2 KL(softmax(s v_t.C / T) || softmax(s v_s.C / T))`` with vectors v of
length 1, text vectors C of the classes and the teacher's scale s, summed over classes, averaged over the batch.

Known to go wrong: the authors divide by the number of classes too and make up for it with a weight of 200 to 1000,
which do not belong here. A student whose logits are these already (``student.anchored=true``) takes ``kd``.
"""

from torch import Tensor

from distill.losses.base import Loss, require_positive, require_teacher
from distill.losses.image_text import ClassVectors, class_vectors, require_one_space
from distill.losses.kd import kd
from distill.losses.soft import heat
from distill.losses.tap_pair import full_precision, unit
from distill.outputs import Batch, Outputs, Specs, TrainingSet
from distill.schedules.adaptive import Adaptive
from distill.schedules.base import Schedule


def zero_shot(embedding: Tensor, text: Tensor, scale: float) -> Tensor:
    """Return the logits ``(N, K)`` of vectors ``(N, D)`` by text vectors of length 1 ``(K, D)``."""
    return scale * unit(embedding.float()) @ text.T


class ZeroShot(Loss):
    """KL divergence of probabilities by the teacher's text vectors.

    Args:
        temperature: T; divides both logits.
        t2: multiply by T^2.
        student_tap: the student's vector of an image, as long as the teacher's.
        teacher_tap: the teacher's vector of an image.

    Raises:
        ValueError: when the temperature is, or at any time becomes, 0 or less.
    """

    def __init__(
        self,
        temperature: float | Schedule | Adaptive = 1.0,
        t2: bool = True,
        student_tap: str = "image_embedding",
        teacher_tap: str = "image_embedding",
    ) -> None:
        super().__init__()
        require_positive("temperature", temperature)
        self.temperature, self.t2 = temperature, t2
        self.student_tap, self.teacher_tap = student_tap, teacher_tap
        self.classes: ClassVectors | None = None

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_one_space(student, teacher, self.student_tap, self.teacher_tap)

    def meet(self, data: TrainingSet) -> None:
        self.classes = class_vectors(data, self.teacher_tap)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        assert self.classes is not None
        text, scale = self.classes.text, self.classes.scale
        with full_precision(student.logits):
            mine = Outputs(zero_shot(student.features[self.student_tap], text, scale))
            other = Outputs(zero_shot(teacher.features[self.teacher_tap].detach(), text, scale))
            return kd(mine.logits, other.logits, heat(self.temperature, mine, other, batch), self.t2)
