"""AnnealingKD: match the teacher's logits themselves, scaled down at first and in full at the end; then labels only.

Jafari et al., "Annealing Knowledge Distillation", EACL 2021 (arXiv:2104.07163), equations 4 and 5: in phase one
``|| z_s - z_t Phi(T) ||^2`` with ``Phi(T) = 1 - (T - 1) / tau_max``, T falling from tau_max to 1 in integers; in phase
two cross-entropy alone. The phases are weights of the two terms, see ``+experiment=annealing_kd``.

Known to go wrong: without both phases it is another method. The authors' code takes the mean over classes, so that it
is K times smaller; lets T rise and multiplies by T / tau_max, which is the same; and starts phase two from the epoch
of phase one that was best on the test split, with a new optimizer, which is not done here.
"""

from torch import Tensor

from distill.losses.base import Loss, number, require_same_classes, require_teacher
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.base import Schedule, trajectory


def annealing_kd(
    student: Tensor, teacher: Tensor, temperature: float, tau_max: float, strict_reference: bool = False
) -> Tensor:
    """Return the squared distance of the student's logits to the scaled ones of the teacher, averaged over the batch.

    Args:
        student: logits ``(N, K)``.
        teacher: logits ``(N, K)``; receives no gradient.
        temperature: T, in [1, tau_max].
        tau_max: the T at which Phi is 1 / tau_max.
        strict_reference: average over the classes too.
    """
    phi = 1 - (temperature - 1) / tau_max
    squares = (student.float() - phi * teacher.detach().float()).square()
    return squares.mean() if strict_reference else squares.sum(1).mean()


class AnnealingKD(Loss):
    """Squared distance to the teacher's logits times a factor that grows with the clock.

    Args:
        temperature: T; the student's logits are not divided by it.
        tau_max: largest T, from which the factor is counted.
        strict_reference: average over the classes too, as the authors' code does.

    Raises:
        ValueError: when the temperature is, or at any time becomes, less than 1 or more than ``tau_max``.
    """

    def __init__(
        self, temperature: float | Schedule = 10.0, tau_max: float = 10.0, strict_reference: bool = False
    ) -> None:
        super().__init__()
        for value in trajectory(temperature):
            if not 1 <= value <= tau_max:
                raise ValueError(f"temperature must stay from 1 to tau_max={tau_max:g}, got {value:g}")
        self.temperature, self.tau_max, self.strict_reference = temperature, float(tau_max), strict_reference

    def prepare(self, student: Specs, teacher: Specs) -> None:
        require_same_classes(student, teacher)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        told = require_teacher(teacher).logits
        return annealing_kd(student.logits, told, number(self.temperature), self.tau_max, self.strict_reference)
