"""CompRess: match the teacher's distribution of similarities to a queue of earlier images; takes no labels.

Abbasi Koohpayegani, Tejankar and Pirsiavash, "CompRess: Self-Supervised Learning by Compressing Representations",
NeurIPS 2020 (arXiv:2010.14713), section 3: KL divergence from ``softmax(<z_t, q_t> / tau)`` to
``softmax(<z_s, q_s> / tau)`` over the queue. With one queue both compare with the teacher's embeddings; with two the
student compares with its own earlier ones.

Known to go wrong: the paper fills the second queue by a momentum copy of the student, which a loss has not; here, as in
the authors' variant without momentum, the student does. A queue longer than an epoch holds older views of the image.
Without ce the classifier has no gradient: read the student by a probe, and with several devices take
trainer.strategy=ddp_find_unused_parameters_true.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import number, require_positive
from distill.losses.gathering import gather
from distill.losses.memory import Queue, require_room
from distill.losses.soft import divergence
from distill.losses.tap_pair import TapPair, full_precision, head, unit
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.base import Schedule


def compress(student: Tensor, teacher: Tensor, mine: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return the KL divergence from the teacher's similarities to the student's, averaged over the batch.

    Args:
        student: embeddings of length 1 ``(N, D)``.
        teacher: embeddings of length 1 ``(N, E)``; receives no gradient.
        mine: queue that the student compares with ``(M, D)``.
        other: queue of the same images that the teacher compares with ``(M, E)``.
        temperature: tau of both.
    """
    log_s = F.log_softmax(student @ mine.T / temperature, dim=1)
    return divergence(log_s, F.log_softmax(teacher.detach() @ other.T / temperature, dim=1))


class CompRess(TapPair):
    """Similarities to a queue of earlier images.

    In a distributed run each process compares its own samples with queues that hold those of all, so the mean over
    processes is the loss of one process with the whole batch.

    Args:
        student_tap: name of the student's feature, a vector.
        teacher_tap: name of the teacher's embedding, a vector; not changed, for the teacher is frozen.
        queues: 1: both compare with the teacher's embeddings; 2: the student compares with its own.
        head: with one queue, what maps the student's vector to the teacher's length: ``"mlp"``, ``"linear"`` or
            ``"identity"``; with two the lengths may differ and the student's vector is taken as it is.
        queue: M, embeddings in each queue.
        temperature: tau of the similarities; not that of softened classes.
        limit_gb: largest size of the queues together.

    Raises:
        ValueError: when an argument is out of range.
    """

    recordable = False  # the host keeps the place in the queue
    connector: nn.Module

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        queues: int = 1,
        head: str = "linear",
        queue: int = 128000,
        temperature: float | Schedule = 0.04,
        limit_gb: float = 2.0,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        require_positive("temperature", temperature)
        if queues not in (1, 2):
            raise ValueError(f"queues must be 1 or 2, got {queues}")
        if queue < 1:
            raise ValueError(f"queue must hold at least 1 embedding, got {queue}")
        self.queues, self.head, self.size = queues, head, queue
        self.temperature, self.limit_gb = temperature, limit_gb

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, other = self.vectors(student, teacher)
        length = mine + other if self.queues == 2 else other
        require_room("queues of embeddings", self.size, length, self.limit_gb)
        self.connector = head(self.head, mine, other) if self.queues == 1 else nn.Identity()
        self.queue_teacher = Queue(_uniform(self.size, other))
        self.queue_student = Queue(_uniform(self.size, mine)) if self.queues == 2 else None

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        with full_precision(mine):
            mine, other = unit(self.connector(mine)), unit(other)
            own = self.queue_teacher if self.queue_student is None else self.queue_student
            value = compress(mine, other, own.read(), self.queue_teacher.read(), number(self.temperature))
            if self.training:
                self.queue_teacher.push(gather(other))
                if self.queue_student is not None:
                    self.queue_student.push(gather(mine.detach()))
            return value


def _uniform(size: int, dim: int) -> Tensor:
    bound = math.sqrt(3 / dim)  # rows of mean square length 1
    return torch.rand(size, dim) * 2 * bound - bound
