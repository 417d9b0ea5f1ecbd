"""ReviewKD: match each stage of the teacher from that stage of the student fused with all the deeper ones.

Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021 (arXiv:2104.09044): the chain of attention-based
fusions of section 3.3 and the hierarchical context loss of section 3.4, ``sum_i HCL(ABF_i(f_s), f_t,i)``, with HCL the
mean squared difference of the maps and of their averages on grids of 4, 2 and 1, weighted 1, 1/2, 1/4, 1/8.

Known to go wrong: the paper's numbers are of another recipe (batch 128, Nesterov, lr 0.1, best epoch on the test
split) and of a weight that warms up over 20 epochs; the published code counts those from 0, so its first epoch has
none of it, ``scheduler=warmup`` from 1. Teacher features are those before the activation, the student's those after.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.connectors.abf import Review
from distill.connectors.forms import as_map, map_shape
from distill.losses.base import Loss, find_spec, require_teacher
from distill.outputs import Batch, Outputs, Spec, Specs

GRIDS = (4, 2, 1)


def hcl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the hierarchical context loss of two maps.

    Args:
        student: ``(N, C, H, W)``.
        teacher: ``(N, C, H, W)``; receives no gradient. Grids that are not smaller than the map are left out, and the
            weighted sum is divided by the sum of the weights that remain.
    """
    student, teacher = student.float(), teacher.detach().float()
    value = (student - teacher).square().mean()
    weight = total = 1.0
    for grid in GRIDS:
        if grid < min(student.shape[-2:]):
            weight /= 2
            total += weight
            mine, other = (F.adaptive_avg_pool2d(maps, grid) for maps in (student, teacher))
            value = value + weight * F.mse_loss(mine, other)
    return value / total


class ReviewKD(Loss):
    """Hierarchical context loss of every stage through a chain of fusions.

    Args:
        student_taps: names of the student's features, shallowest first; maps, tokens with a grid, vectors.
        teacher_taps: names of the teacher's features, one for each of the student's.

    Raises:
        ValueError: when the numbers of taps differ or are 0.
    """

    review: Review

    def __init__(
        self,
        student_taps: Sequence[str] = ("stage1", "stage2", "stage3", "pooled"),
        teacher_taps: Sequence[str] = ("stage1_preact", "stage2_preact", "stage3_preact", "pooled"),
    ) -> None:
        super().__init__()
        if len(student_taps) != len(teacher_taps) or not student_taps:
            raise ValueError(
                f"student_taps and teacher_taps pair up, got {len(student_taps)} and {len(teacher_taps)}; name as many"
            )
        self.mine, self.others = tuple(student_taps), tuple(teacher_taps)
        self.goals: list[Spec] = []

    def student_taps(self) -> tuple[str, ...]:
        return self.mine

    def teacher_taps(self) -> tuple[str, ...]:
        return self.others

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine = [find_spec(student, tap, "student") for tap in self.mine]
        self.goals = [find_spec(teacher, tap, "teacher") for tap in self.others]
        if any(map_shape(spec) is None for spec in (*mine, *self.goals)):
            pairs = zip(self.mine, mine, self.others, self.goals, strict=True)
            told = ", ".join(f"{s!r} {a.shape} to {t!r} {b.shape}" for s, a, t, b in pairs)
            raise ValueError(f"every tap must be a map, tokens with a grid or a vector, got {told}; choose other taps")
        self.review = Review(mine, self.goals)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        teacher = require_teacher(teacher)
        with torch.autocast(student.logits.device.type, enabled=False):
            found = self.review([student.features[tap].float() for tap in self.mine])
            goals = [as_map(teacher.features[tap], spec) for tap, spec in zip(self.others, self.goals, strict=True)]
            return torch.stack([hcl(a, b) for a, b in zip(found, goals, strict=True)]).sum()
