"""VL2Lite: match the teacher's image vector and its zero-shot probabilities, in one space of both networks.

Jang et al., "VL2Lite: Task-Specific Knowledge Distillation from Large Vision-Language Models to Lightweight Networks",
CVPR 2025: ``1/2 [mean |h - z_v| + 1/2 T^2 KL(softmax(s v.t / T) || softmax(s h.z_t / T))]`` with the student's vector
h, the teacher's vectors v of the image and t of the classes, z what they are in the common space, all of length 1,
s = 1 / 0.07, T = 2. Here the student is projected up to the teacher's space by a trained ``head``, so z_v = v and
z_t = t.

Known to go wrong: in the paper (``strict_reference``) trained perceptrons condense v and t down to the student's width
instead, so the target moves with the student and only cross-entropy and the KL keep all from meeting in one point. The
paper's weight beside ce is a schedule: ``1 - w`` with w, that of ce, going from 0 to 1/8 over the run.
"""

from __future__ import annotations

from torch import Tensor, nn

from distill.losses.base import number, require_positive
from distill.losses.image_text import ClassVectors, class_vectors
from distill.losses.kd import kd
from distill.losses.tap_pair import TapPair, full_precision, head, unit
from distill.outputs import Batch, Outputs, Specs, TrainingSet
from distill.schedules.base import Schedule


def condensed(
    student: Tensor, image: Tensor, text: Tensor, teacher: Tensor, classes: Tensor, scale: float, temperature: float
) -> Tensor:
    """Return half the sum of both distances, averaged over the batch.

    Args:
        student: h ``(N, C)``, of length 1 as all others are.
        image: z_v ``(N, C)``.
        text: z_t ``(K, C)``.
        teacher: v ``(N, D)``; receives no gradient.
        classes: t ``(K, D)``.
        scale: s, what cosines are multiplied by.
        temperature: T.
    """
    soft = kd(scale * student @ text.T, scale * teacher @ classes.T, temperature)
    return ((student - image).abs().mean() + soft / 2) / 2


class Condensed(TapPair):
    """Image vector and zero-shot probabilities.

    Args:
        student_tap: the student's vector of an image, of any length.
        teacher_tap: the teacher's vector of an image.
        head: from the student's vector to the teacher's length: ``"linear"``, ``"mlp"`` or ``"identity"``.
        tau: 1 / s.
        temperature: T.
        strict_reference: condense the teacher's vectors to the student's length by trained perceptrons instead.

    Raises:
        ValueError: when tau or temperature is, or at any time becomes, 0 or less.
    """

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "image_embedding",
        head: str = "linear",
        tau: float = 0.07,
        temperature: float | Schedule = 2.0,
        strict_reference: bool = False,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        require_positive("tau", tau)
        require_positive("temperature", temperature)
        self.kind, self.tau, self.temperature, self.strict_reference = head, tau, temperature, strict_reference
        self.image: nn.Module = nn.Identity()
        self.text: nn.Module = nn.Identity()
        self.head: nn.Module = nn.Identity()
        self.width = 0
        self.classes: ClassVectors | None = None

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, self.width = self.vectors(student, teacher)
        if self.strict_reference:
            self.image, self.text = (_perceptron(self.width, mine) for _ in range(2))
        else:
            self.head = head(self.kind, mine, self.width)

    def meet(self, data: TrainingSet) -> None:
        self.classes = class_vectors(data, self.teacher_tap)
        if self.classes.text.shape[1] != self.width:
            raise ValueError(
                f"teacher tap {self.teacher_tap!r} has length {self.width} and the teacher's text vectors "
                f"{self.classes.text.shape[1]}; take image_embedding, which lies in their space"
            )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        assert self.classes is not None
        with full_precision(student.logits):
            mine, other = self.embedded(student, teacher)
            image, classes = unit(other), self.classes.text
            told = unit(self.image(image)), unit(self.text(classes))
            return condensed(unit(self.head(mine)), *told, image, classes, 1 / self.tau, number(self.temperature))


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))
