"""MultiTeacher: several teachers joined into one set of outputs by fixed weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from distill.modules.base import DistillationModule
from distill.outputs import Batch, Outputs
from distill.teachers.base import Teacher


def join(outputs: Mapping[str, Outputs], weights: Mapping[str, float], average: str) -> Outputs:
    """Return the weighted mean of several teachers.

    Args:
        outputs: outputs by teacher name, logits ``(N, K)`` each.
        weights: relative weight by teacher name; equal weights give the mean.
        average: ``"logits"`` averages logits; ``"probabilities"`` averages probabilities, returned as logarithms.

    Returns:
        Joined logits ``(N, K)`` in float32, and every feature under ``teacher/tap``.
    """
    total = sum(weights.values())
    shares = {name: weights[name] / total for name in outputs}  # numbers, which no device has to be sent
    if average == "logits":
        logits = torch.stack([shares[name] * o.logits.float() for name, o in outputs.items()]).sum(0)
    else:
        logs = {name: math.log(share) if share else -math.inf for name, share in shares.items()}
        parts = [F.log_softmax(o.logits.float(), -1) + logs[name] for name, o in outputs.items()]
        logits = torch.stack(parts).logsumexp(0)
    return Outputs(logits, {f"{name}/{tap}": f for name, o in outputs.items() for tap, f in o.features.items()})


class MultiTeacher(DistillationModule):
    """Distillation from several teachers; every loss sees them as one.

    Args:
        teachers: teachers by name; not submodules.
        weights: relative weight by the same names.
        average: what is averaged, ``"logits"`` or ``"probabilities"``; see :func:`join`.
        settings: the arguments of :class:`DistillationModule`.
    """

    def __init__(
        self, teachers: Mapping[str, Teacher], weights: Mapping[str, float], average: str, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.teachers = dict(teachers)
        self.teacher_weights = dict(weights)
        self.average = average

    @property
    def teaches_on_device(self) -> bool:
        return all(teacher.recordable for teacher in self.teachers.values())

    def on_fit_start(self) -> None:
        super().on_fit_start()
        for teacher in self.teachers.values():
            teacher.to(self.device)

    def prefetch(self, batches: Sequence[Batch]) -> None:
        for teacher in self.teachers.values():
            teacher.prefetch(batches)

    def teach(self, batch: Batch) -> Outputs:
        """Return the joined outputs of all teachers for a batch."""
        return join({name: t(batch) for name, t in self.teachers.items()}, self.teacher_weights, self.average)
