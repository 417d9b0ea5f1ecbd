"""SEED: find the neighbours of an image in a queue of teacher embeddings as the teacher finds them; takes no labels.

Fang et al., "SEED: Self-supervised Distillation for Visual Representation", ICLR 2021 (arXiv:2101.04731), section 3.2:
cross-entropy of ``softmax(<z_s, q> / tau_s)`` under ``softmax(<z_t, q> / tau_t)`` over the teacher's own embedding of
the image, which comes first, and a queue of its latest ones.

Known to go wrong: with tau_t = 1e-4 (the authors' code) the target is all but one-hot on the image itself, or on an
older view of it where the queue is longer than an epoch. Without ce the classifier has no gradient: read the student by
a probe, and with several devices take trainer.strategy=ddp_find_unused_parameters_true.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import number, require_positive
from distill.losses.gathering import gather
from distill.losses.memory import Queue, require_room
from distill.losses.tap_pair import TapPair, full_precision, head, unit
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.base import Schedule


def seed(student: Tensor, teacher: Tensor, queue: Tensor, tau_student: float, tau_teacher: float) -> Tensor:
    """Return the cross-entropy of similarities to the teacher's embedding of the image and to a queue.

    Args:
        student: embeddings of length 1 ``(N, D)``.
        teacher: embeddings of length 1 ``(N, D)``; receives no gradient.
        queue: embeddings of other images by the teacher ``(M, D)``.
        tau_student: temperature of the student's similarities.
        tau_teacher: temperature of the teacher's.
    """
    teacher = teacher.detach()
    s = torch.cat([(student * teacher).sum(1, keepdim=True), student @ queue.T], 1)
    t = torch.cat([teacher.square().sum(1, keepdim=True), teacher @ queue.T], 1)
    return F.cross_entropy(s / tau_student, F.softmax(t / tau_teacher, dim=1))


class SEED(TapPair):
    """Similarities to a queue of the teacher's embeddings.

    In a distributed run each process compares its own samples with a queue that holds those of all, so the mean over
    processes is the loss of one process with the whole batch.

    Args:
        student_tap: name of the student's feature, a vector.
        teacher_tap: name of the teacher's embedding, a vector; not changed, for the teacher is frozen.
        head: maps the student's vector to the teacher's length: ``"mlp"``, ``"linear"`` or ``"identity"``.
        queue: M, embeddings in the queue.
        tau_student: temperature of the student's similarities.
        tau_teacher: temperature of the teacher's.
        limit_gb: largest size of the queue.

    Raises:
        ValueError: when a temperature is not above 0 or the queue holds nothing.
    """

    recordable = False  # the host keeps the place in the queue
    connector: nn.Module

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        head: str = "mlp",
        queue: int = 65536,
        tau_student: float | Schedule = 0.2,
        tau_teacher: float | Schedule = 1e-4,
        limit_gb: float = 2.0,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        require_positive("tau_student", tau_student)
        require_positive("tau_teacher", tau_teacher)
        if queue < 1:
            raise ValueError(f"queue must hold at least 1 embedding, got {queue}")
        self.head, self.size, self.limit_gb = head, queue, limit_gb
        self.tau_student, self.tau_teacher = tau_student, tau_teacher

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, other = self.vectors(student, teacher)
        require_room("a queue of embeddings", self.size, other, self.limit_gb)
        self.connector = head(self.head, mine, other)
        self.queue = Queue(unit(torch.randn(self.size, other)))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        with full_precision(mine):
            mine, other = unit(self.connector(mine)), unit(other)
            value = seed(mine, other, self.queue.read(), number(self.tau_student), number(self.tau_teacher))
            if self.training:
                self.queue.push(gather(other))
            return value
