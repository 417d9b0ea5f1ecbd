"""CrossModal: one image-text teacher; at each evaluation the maps of teacher and student are judged."""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from torch import Tensor

from distill.losses.maps import joint_size
from distill.modules.map_quality import Seen, differing, judged, on_grid, target_attention
from distill.modules.single_teacher import SingleTeacher
from distill.outputs import Anchors, Batch, Outputs
from distill.teachers.base import Teacher

MAP = "dense"
"""Tap of a student's map."""
PERCENT = ("pointing", "patch_class", "agreement")
NAMES = (*(f"{side}_{name}" for side in ("teacher", "student") for name in Seen._fields), "kl")


class CrossModal(SingleTeacher):
    """Distillation from an image-text teacher to a student with a map in its space.

    On the first batches of the first evaluation split it logs, as ``map/teacher_*`` and ``map/student_*``, what
    :class:`~distill.modules.map_quality.Seen` describes, three of the four in percent, and ``map/kl``, the divergence
    of the student's distribution over places from the teacher's, both of the true class. What is said of the teacher
    is computed once. Where its map points worse than the student's own it says so, once.

    Args:
        teacher: with anchors.
        teacher_map: its tap that is judged; None where it gives no map.
        map_batches: evaluation batches to look at; 0 for none.
        settings: the arguments of :class:`~distill.modules.base.DistillationModule`.
    """

    def __init__(self, teacher: Teacher, teacher_map: str | None, map_batches: int, **settings: Any) -> None:
        super().__init__(teacher, **settings)
        anchors = teacher.anchors
        assert anchors is not None
        self.anchors: Anchors = anchors
        self.teacher_map, self.map_batches = teacher_map, map_batches
        self.told: dict[int, tuple[Tensor, Seen]] = {}  # by batch: the teacher's map of the true class, and its worth
        self.sizes = (0, 0)  # of the grid that both maps are compared on
        self._seen: dict[str, list[Tensor]] = {}
        self._warned = False

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.anchors = Anchors(self.anchors.text.to(self.device).float(), self.anchors.scale)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._seen = {}

    def looked(self, student: Outputs, batch: Batch, batch_idx: int, dataloader_idx: int) -> None:
        """Judge the maps of one batch."""
        if dataloader_idx or batch_idx >= self.map_batches:
            return
        maps = student.features[MAP].float()
        self._note("student", judged(maps, student.logits.float(), self.anchors, batch))
        if self.teacher_map is None:
            return
        if batch_idx not in self.told:
            self.told[batch_idx] = self._ask_teacher(
                batch, (int(maps.shape[-2]), int(maps.shape[-1])), self.teacher_map
            )
        log, seen = self.told[batch_idx]
        self._note("teacher", seen)
        mine = target_attention(on_grid(maps, self.sizes), self.anchors, batch.target)
        self._seen.setdefault("kl", []).append(differing(mine, log))

    def _ask_teacher(self, batch: Batch, size: tuple[int, int], tap: str) -> tuple[Tensor, Seen]:
        answer = self.teacher.look(batch, [tap])
        maps = answer.features[tap]
        self.sizes = joint_size(size, (int(maps.shape[-2]), int(maps.shape[-1])), "coarse")
        log = target_attention(on_grid(maps, self.sizes), self.anchors, batch.target)
        return log, judged(maps, answer.logits, self.anchors, batch)

    def _note(self, side: str, seen: Seen) -> None:
        for name, values in seen._asdict().items():
            self._seen.setdefault(f"{side}_{name}", []).append(values)

    def on_validation_epoch_end(self) -> None:
        sums = torch.zeros(2, len(NAMES), dtype=torch.float64, device=self.device)
        for number, name in enumerate(NAMES):
            if name in self._seen:
                values = torch.cat(self._seen[name]).double()
                sums[:, number] = torch.stack([values.nansum(), values.isfinite().sum()])
        total = self.trainer.strategy.reduce(sums, reduce_op="sum")
        assert isinstance(total, Tensor)
        for name, value, count in zip(NAMES, *total.tolist(), strict=True):
            if count:
                self._row[f"map/{name}"] = (100 if name.partition("_")[2] in PERCENT else 1) * value / count
        self._warn(self._row.get("map/teacher_pointing", math.nan), self._row.get("map/student_pointing", math.nan))
        super().on_validation_epoch_end()

    def _warn(self, teacher: float, student: float) -> None:
        if teacher < student and not self._warned and not self.global_rank:
            self._warned = True
            print(
                f"note: the teacher's map {self.teacher_map} points at the class in {teacher:.1f} % of images, the "
                f"student's own in {student:.1f} %; a map loss would teach it worse, so choose another map or none",
                file=sys.stderr,
            )

    def outcome(self) -> dict[str, Any]:
        last = next((row for row in reversed(self.history) if any(k.startswith("map/") for k in row)), {})
        found: dict[str, Any] = {k.removeprefix("map/"): v for k, v in last.items() if k.startswith("map/")}
        return {"map": {**found, "teacher_map": self.teacher_map}} if found else {}
