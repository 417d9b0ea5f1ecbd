"""SemCKD: each stage of the student learns from all of the teacher's, by attention between their similarities.

Chen et al., "Cross-Layer Distillation with Semantic Calibration", AAAI 2021 (arXiv:2012.03236):
``1/S sum_s sum_t alpha_s,t mean (Proj(f_s) - f_t)^2`` averaged over the batch, the larger map average-pooled to the
size of the smaller; ``alpha_s,.`` of a sample is the softmax over t of the product of query and key, each a perceptron
of the sample's row of ``A = F F^T``, the similarities of the flattened features in the batch.

Known to go wrong: a row of A has one entry a sample of the batch, so the perceptrons know the batch size (``samples``)
and the value depends on the order of the samples; the last, smaller batch is filled up with zeros here, where the
published code stops. Its weight (400) is that of the mean over channels and positions and over the student's stages.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.connectors.forms import as_map, map_shape
from distill.connectors.layers import BatchNorm
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Spec, Specs

FACTOR = 4
"""Batch size over the width of queries and keys, as in the published code."""


def semckd(attention: Tensor, errors: Tensor) -> Tensor:
    """Return the errors of all pairs of stages weighted by attention, averaged over samples and student stages.

    Args:
        attention: ``(N, S, T)``, summing to 1 over T.
        errors: mean squared error of each sample in each pair ``(N, S, T)``.
    """
    return (attention * errors).sum(2).mean()


def similarity(feature: Tensor, samples: int) -> Tensor:
    """Return products of all pairs of flattened features, ``(N, samples)``; zero where the batch has fewer samples."""
    flat = feature.flatten(1)
    return F.pad(flat @ flat.T, (0, samples - len(flat)))


class Embed(nn.Module):
    """Two linear layers with a ReLU between, the result of unit length."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 2 * outputs), nn.ReLU(), nn.Linear(2 * outputs, outputs))

    def forward(self, rows: Tensor) -> Tensor:
        """Return ``(N, outputs)`` of ``(N, inputs)``."""
        return F.normalize(self.layers(rows), dim=1)


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """Return convolutions 1x1, 3x3, 1x1, twice the teacher's channels wide, batch norm and ReLU between."""
    wide = 2 * outputs
    return nn.Sequential(
        nn.Conv2d(inputs, wide, 1, bias=False), BatchNorm(wide), nn.ReLU(),
        nn.Conv2d(wide, wide, 3, padding=1, bias=False), BatchNorm(wide), nn.ReLU(),
        nn.Conv2d(wide, outputs, 1, bias=False),
    )  # fmt: skip


class SemCKD(Loss):
    """All pairs of student and teacher stages, weighted by a learned attention of each sample.

    Args:
        samples: batch size of each process; a larger batch cannot be compared.
        student_taps: names of the student's features: maps, or tokens with a grid.
        teacher_taps: names of the teacher's features, of any number, likewise.

    Raises:
        ValueError: when a list of taps is empty, or ``samples`` is below 1.
    """

    def __init__(
        self,
        samples: int,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
        teacher_taps: Sequence[str] = ("stage1", "stage2", "stage3"),
    ) -> None:
        super().__init__()
        if samples < 1 or not student_taps or not teacher_taps:
            raise ValueError(f"samples={samples} and the lists of taps must not be empty; name at least one of each")
        self.samples = samples
        self.mine, self.others = tuple(student_taps), tuple(teacher_taps)
        self.specs: dict[str, list[Spec]] = {}
        width = max(samples // FACTOR, 1)
        self.queries = nn.ModuleList(Embed(samples, width) for _ in self.mine)
        self.keys = nn.ModuleList(Embed(samples, width) for _ in self.others)
        self.projections = nn.ModuleList()

    def student_taps(self) -> tuple[str, ...]:
        return self.mine

    def teacher_taps(self) -> tuple[str, ...]:
        return self.others

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = [find_spec(student, tap, "student") for tap in self.mine]
        others = [find_spec(teacher, tap, "teacher") for tap in self.others]
        taps = [*zip(self.mine, mine, strict=True), *zip(self.others, others, strict=True)]
        if any(len(spec.shape) == 1 or map_shape(spec) is None for _, spec in taps):
            told = ", ".join(f"{tap!r} {spec.shape}" for tap, spec in taps)
            raise ValueError(f"every tap must be a map or tokens with a grid, got {told}; choose other taps")
        self.specs = {"student": mine, "teacher": others}
        widths = [[(map_shape(spec) or (0,))[0] for spec in side] for side in (mine, others)]
        self.projections = nn.ModuleList(nn.ModuleList(projection(s, t) for t in widths[1]) for s in widths[0])

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        if len(batch.target) > self.samples:
            raise ValueError(f"samples={self.samples} but the batch has {len(batch.target)}; set it to the batch size")
        with torch.autocast(student.logits.device.type, enabled=False):
            mine = self._maps(self.mine, student, "student")
            others = [maps.detach() for maps in self._maps(self.others, teacher, "teacher")]
            query = torch.stack(
                [q(similarity(f, self.samples)) for q, f in zip(self.queries, mine, strict=True)], dim=1
            )
            key = torch.stack([k(similarity(f, self.samples)) for k, f in zip(self.keys, others, strict=True)], dim=1)
            errors = [
                torch.stack([_error(f, goal, p) for goal, p in zip(others, row, strict=True)], dim=1)
                for f, row in zip(mine, self._rows(), strict=True)
            ]
            return semckd((query @ key.mT).softmax(2), torch.stack(errors, dim=1))

    def _rows(self) -> list[list[nn.Module]]:
        return [[*row.children()] for row in self.projections]

    def _maps(self, taps: Sequence[str], outputs: Outputs, side: str) -> list[Tensor]:
        return [as_map(outputs.features[t].float(), spec) for t, spec in zip(taps, self.specs[side], strict=True)]


def _error(student: Tensor, teacher: Tensor, project: nn.Module) -> Tensor:
    """Return the mean squared difference of each sample ``(N,)``, the larger map pooled to the size of the smaller."""
    size = min(student.shape[-2], teacher.shape[-2]), min(student.shape[-1], teacher.shape[-1])
    student, teacher = (F.adaptive_avg_pool2d(maps, size) for maps in (student, teacher))
    return (project(student) - teacher).square().mean((1, 2, 3))
