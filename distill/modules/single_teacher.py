"""SingleTeacher: one teacher's outputs, read from outside the module tree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill.modules.base import DistillationModule
from distill.outputs import Batch, Outputs
from distill.teachers.base import Teacher


class SingleTeacher(DistillationModule):
    """Distillation from one teacher (Hinton et al. 2015, and every method that has one).

    Args:
        teacher: gives outputs for a batch; not a submodule, so it is in no checkpoint, optimizer or DDP bucket.
        settings: the arguments of :class:`DistillationModule`.
    """

    def __init__(self, teacher: Teacher, **settings: Any) -> None:
        super().__init__(**settings)
        self.teacher = teacher

    @property
    def teaches_on_device(self) -> bool:
        return self.teacher.recordable

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.teacher.to(self.device)

    def prefetch(self, batches: Sequence[Batch]) -> None:
        self.teacher.prefetch(batches)

    def teach(self, batch: Batch) -> Outputs:
        """Return the teacher's outputs for a batch."""
        return self.teacher(batch)
