"""The objective is the weighted sum of its terms, skips weight 0, and gives every schedule its value."""

import pytest
import torch
from torch import Tensor

from distill.losses.base import Loss
from distill.losses.ce import CE
from distill.losses.kd import KD
from distill.objective import Objective
from distill.outputs import Batch, Outputs
from distill.schedules.base import Progress
from distill.schedules.linear import Linear


def batch(n: int = 4) -> Batch:
    index = torch.arange(n)
    return Batch(torch.zeros(n, 1, 2, 2), torch.arange(n) % 3, index, torch.zeros_like(index))


class Forbidden(Loss):
    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        raise AssertionError("a term of weight 0 was computed")


def test_objective__weighted_sum_of_terms_in_order() -> None:
    torch.manual_seed(0)
    student, teacher = Outputs(torch.randn(4, 3)), Outputs(torch.randn(4, 3))
    ce, kd = CE(label_smoothing=0.0), KD(temperature=2.0)
    total, values = Objective({"ce": ce, "kd": kd}, {"ce": 0.3, "kd": 0.7})(student, teacher, batch())
    assert values[0] == ce(student, teacher, batch())
    assert values[1] == kd(student, teacher, batch())
    torch.testing.assert_close(total, 0.3 * values[0] + 0.7 * values[1])


def test_objective__a_term_of_weight_zero_is_not_computed_and_needs_no_teacher() -> None:
    objective = Objective({"ce": CE(label_smoothing=0.0), "no": Forbidden()}, {"ce": 1.0, "no": 0.0})
    total, values = objective(Outputs(torch.randn(4, 3)), None, batch())
    assert not objective.reads_teacher
    assert values[1] == 0
    assert total == values[0]


def test_set_progress__moves_parameters_and_weights_and_tells_their_values() -> None:
    objective = Objective(
        {"ce": CE(label_smoothing=0.0), "kd": KD(temperature=Linear(start=5.0, end=1.0))},
        {"ce": 1.0, "kd": Linear(start=0.0, end=2.0)},
    )
    assert objective.values == {"kd.temperature": 5.0, "kd.weight": 0.0}
    assert not objective.reads_teacher
    objective.set_progress(Progress(0.5))
    assert objective.values == {"kd.temperature": 3.0, "kd.weight": 1.0}
    assert objective.reads_teacher
    student, teacher = Outputs(torch.randn(4, 3)), Outputs(torch.randn(4, 3))
    _, values = objective(student, teacher, batch())
    torch.testing.assert_close(values[1], KD(temperature=3.0)(student, teacher, batch()))


def test_prepare__an_error_names_the_term() -> None:
    class Picky(Forbidden):
        def prepare(self, student: object, teacher: object) -> None:
            raise ValueError("cannot connect")

    with pytest.raises(ValueError, match=r"^loss\.picky: cannot connect$"):
        Objective({"picky": Picky()}, {"picky": 1.0}).prepare({}, {})
