"""CRD: tell the teacher's embedding of an image from those of others by the student's, and the other way round.

Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020 (arXiv:1910.10699), equations 17 to 19:
with ``h = exp(<s, t> / tau) / Z`` and K negatives of M samples from memory banks, noise-contrastive estimation
``-log(h / (h + K/M)) - sum_negatives log((K/M) / (h + K/M))``, for both directions. Z, which the paper leaves out, is M
times the mean over the first batch, as in the authors' code.

Known to go wrong: drawing negatives on the CPU takes most of a step; here the device does, and picks them from the
(N, M) products with the whole bank where those are smaller than K embeddings a sample. The value grows with K, so the
weight (0.8) belongs to K = 16384. The banks, 2 M x dim float32 (51 MB on CIFAR, 1.3 GB on ImageNet), are on each
device and in each checkpoint.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import number, require_positive
from distill.losses.contrast import MODES, Contrast
from distill.losses.gathering import gather
from distill.losses.memory import Memory, require_room
from distill.losses.tap_pair import TapPair, full_precision, unit
from distill.outputs import Batch, Outputs, Specs, TrainingSet
from distill.schedules.base import Schedule


def scores(embedding: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
    """Return the products ``(N, K)`` of embeddings ``(N, D)`` with rows ``chosen`` ``(N, K)`` of a bank ``(M, D)``.

    Takes the way with the smaller tensor: all (N, M) products, or the (N, K, D) chosen rows.
    """
    if len(bank) <= chosen.shape[1] * bank.shape[1]:
        return (embedding @ bank.T).gather(1, chosen)
    return (bank[chosen] @ embedding[:, :, None]).squeeze(2)


def log_mean_exp(values: Tensor) -> Tensor:
    """Return the logarithm of the mean of exponentials over all processes."""
    return gather(values.logsumexp((0, 1))[None] - math.log(values.numel())).exp().mean().log()


def crd(logits: Tensor, log_z: Tensor, samples: int) -> Tensor:
    """Return the noise-contrastive estimate of one direction, summed over a row, averaged over the batch.

    Args:
        logits: products over tau ``(N, 1 + K)``, of the positive first.
        log_z: log Z, a scalar.
        samples: M, from which negatives are drawn.
    """
    ratio = logits - log_z - math.log((logits.shape[1] - 1) / samples)  # log of h over K/M
    return (F.softplus(-ratio[:, 0]) + F.softplus(ratio[:, 1:]).sum(1)).mean()


class CRD(TapPair):
    """Contrast with memory banks of one embedding a training sample.

    In a distributed run each process contrasts its own samples with banks that hold those of all; draws depend on the
    sample and the step, so the mean over processes is the loss of one process with the whole batch.

    Args:
        student_tap: name of the student's feature, a vector.
        teacher_tap: name of the teacher's feature, a vector.
        dim: length of both trained embeddings.
        negatives: K, negatives a sample.
        temperature: tau; not that of softened classes.
        momentum: share of the old embedding that the bank keeps.
        mode: ``"exact"``: the positive is the image itself; ``"relax"``: a random one of its class.
        class_aware: draw negatives from other classes only, as the authors do; False also from the same class.
        limit_gb: largest size of both banks together.

    Raises:
        ValueError: when an argument is out of range.
    """

    mixes = False
    recordable = False  # each step draws by its number
    embed_student: nn.Module
    embed_teacher: nn.Module
    bank_student: Memory
    bank_teacher: Memory
    log_z: Tensor

    def __init__(
        self,
        student_tap: str = "pooled",
        teacher_tap: str = "pooled",
        dim: int = 128,
        negatives: int = 16384,
        temperature: float | Schedule = 0.07,
        momentum: float = 0.5,
        mode: str = "exact",
        class_aware: bool = True,
        limit_gb: float = 4.0,
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        require_positive("temperature", temperature)
        if min(dim, negatives) < 1:
            raise ValueError(f"dim and negatives must be at least 1, got {dim} and {negatives}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {momentum:g}")
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        self.dim, self.negatives, self.temperature, self.momentum = dim, negatives, temperature, momentum
        self.mode, self.class_aware, self.limit_gb = mode, class_aware, limit_gb
        self.register_buffer("log_z", torch.zeros(2))
        self.steps = 0
        self.contrast: Contrast | None = None

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, other = self.vectors(student, teacher)
        self.embed_student, self.embed_teacher = nn.Linear(mine, self.dim), nn.Linear(other, self.dim)

    def meet(self, data: TrainingSet) -> None:
        size = len(data.target)
        if len(data.target.unique()) < 2:
            raise ValueError(f"needs negatives of other classes, and all {size} training samples are of one class")
        require_room("two banks of training samples", 2 * size, self.dim, self.limit_gb)
        bound = math.sqrt(3 / self.dim)  # rows of mean square length 1
        seed = int(torch.randint(2**31, ()))
        self.contrast = Contrast(data.target, data.classes, self.mode, self.class_aware, seed)
        self.bank_student, self.bank_teacher = (Memory(torch.rand(size, self.dim) * 2 * bound - bound) for _ in "st")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        features = self.embedded(student, teacher)
        if self.contrast is None:
            raise ValueError("keeps an embedding of every training sample and has met none; call meet() before forward")
        with full_precision(features[0]):
            mine, other = unit(self.embed_student(features[0])), unit(self.embed_teacher(features[1]))
            chosen = self.contrast.draw(batch.index, self.steps, self.negatives)
            tau, size = number(self.temperature), len(self.contrast.target)
            logits = [
                scores(mine, self.bank_teacher.read(), chosen) / tau,
                scores(other, self.bank_student.read(), chosen) / tau,
            ]
            if self.steps == 0:
                self.log_z.copy_(torch.stack([log_mean_exp(x.detach()) + math.log(size) for x in logits]))
            if self.training:
                self._remember(mine.detach(), other.detach(), batch.index)
            return crd(logits[0], self.log_z[0], size) + crd(logits[1], self.log_z[1], size)

    def _remember(self, student: Tensor, teacher: Tensor, index: Tensor) -> None:
        self.steps += 1
        index = gather(index)
        for memory, new in ((self.bank_student, student), (self.bank_teacher, teacher)):
            memory.put(index, unit(self.momentum * memory.bank[index] + (1 - self.momentum) * gather(new)))

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the next draw depends on."""
        return {"steps": self.steps, "seed": self.contrast.seed if self.contrast is not None else None}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with the draws of a checkpoint."""
        self.steps = int(state["steps"])
        if self.contrast is not None and state["seed"] is not None:
            self.contrast.seed = int(state["seed"])
