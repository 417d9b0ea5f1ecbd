"""ND of KD++: push the student's feature along the direction of the teacher's class mean, and make it as long.

Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and Direction", 2023 (arXiv:2305.17007):
``1 - f_s . e_c / max(|f_s|, |f_t|)`` averaged over the batch, with e_c the direction of the mean of the teacher's
features of the class. KD++ is this beside KD: ``loss=[ce,kd,nd]``.

Known to go wrong: a gradient flows through ``|f_s|`` where the student's is the longer feature. The paper takes the
class means from a pass over the training images before training; here they are running means over all that the
teacher has said of a class in this training, augmented views included, so in the first epoch they rest on few samples.
They are buffers, so a resumed run goes on with them, and under DDP they are summed over the processes.
"""

import torch
from torch import Tensor, nn

from distill.connectors import connect
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Specs

EPS = 1e-8  # below every norm but that of a feature which is zero


def nd(student: Tensor, teacher: Tensor, centers: Tensor) -> Tensor:
    """Return one minus the projection on the class direction over the longer norm, averaged over the batch.

    Args:
        student: features ``(N, D)``.
        teacher: features ``(N, D)``; receives no gradient.
        centers: mean feature of the class of each sample ``(N, D)``, of any length; receives no gradient.
    """
    student, teacher = student.float(), teacher.detach().float()
    direction = nn.functional.normalize(centers.detach().float(), dim=1, eps=EPS)
    norms = [torch.linalg.vector_norm(f, dim=1) for f in (student, teacher)]
    return (1 - (student * direction).sum(1) / torch.maximum(*norms).clamp(min=EPS)).mean()


class ND(Loss):
    """Norm and direction of the student's last feature, against running class means of the teacher's.

    Args:
        student_tap: name of the student's feature.
        teacher_tap: name of the teacher's feature, a vector.
        connector: see :func:`distill.connectors.connect`; equal shapes need none.
    """

    mixes = False
    connector: nn.Module
    means: Tensor
    counts: Tensor

    def __init__(self, student_tap: str = "pooled", teacher_tap: str = "pooled", connector: str = "linear") -> None:
        super().__init__()
        self.student_tap, self.teacher_tap, self.kind = student_tap, teacher_tap, connector

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = find_spec(student, self.student_tap, "student")
        goal = find_spec(teacher, self.teacher_tap, "teacher")
        if len(goal.shape) != 1:
            raise ValueError(
                f"teacher tap {self.teacher_tap!r} of shape {goal.shape} is no vector, to which student tap "
                f"{self.student_tap!r} of shape {mine.shape} could be compared; choose one such as pooled"
            )
        kind = "identity" if mine.shape == goal.shape else self.kind
        self.connector = connect(mine, goal, kind, self.student_tap, self.teacher_tap)
        classes = find_spec(student, "logits", "student").shape[0]
        self.register_buffer("means", torch.zeros(classes, goal.shape[0]))
        self.register_buffer("counts", torch.zeros(classes))

    @torch.no_grad()
    def _update(self, teacher: Tensor, target: Tensor) -> None:
        """Take the features of a batch into the means."""
        sums = torch.zeros_like(self.means).index_add_(0, target, teacher)
        counts = torch.zeros_like(self.counts).index_add_(0, target, torch.ones_like(teacher[:, 0]))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for total in (sums, counts):
                torch.distributed.all_reduce(total)
        self.counts += counts
        self.means += (sums - counts[:, None] * self.means) / self.counts.clamp(min=1)[:, None]

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        feature = student.features[self.student_tap]
        goal = require_teacher(teacher).features[self.teacher_tap].detach().float()
        with torch.autocast(feature.device.type, enabled=False):
            if self.training:
                self._update(goal, batch.target)
            return nd(self.connector(feature.float()), goal, self.means[batch.target])
