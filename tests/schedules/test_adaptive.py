"""Temperatures that look at a batch: what holds for all with every loss that takes one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.losses.base import Loss
from distill.losses.dist import DIST
from distill.losses.dkd import DKD
from distill.losses.kd import KD, kd
from distill.objective import Objective
from distill.outputs import Batch, Outputs, Spec
from distill.schedules.adaptive import Adaptive, Heat
from distill.schedules.base import Progress
from distill.schedules.ctkd import CTKD

from .adaptives import ADAPTIVES, made

LOSSES: list[Callable[..., Loss]] = [KD, DKD, DIST]
every = pytest.mark.parametrize("name", ADAPTIVES)


def batch(samples: int, classes: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Batch]:
    random = torch.Generator().manual_seed(0)
    student, teacher = (scale * torch.randn(samples, classes, generator=random) for _ in range(2))
    target = torch.randint(classes, (samples,), generator=random)
    number = torch.arange(samples)
    inputs = torch.zeros(samples, 1, 2, 2)
    return student.requires_grad_(), teacher, Batch(inputs, target, number, number)


def flat(heat: Heat) -> Tensor:
    return torch.cat([torch.as_tensor(t).reshape(-1) for t in (heat if isinstance(heat, tuple) else (heat,))])


@every
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("samples", "classes", "scale"), [(6, 5, 1.0), (6, 5, 1e4), (6, 5, 0.0), (1, 5, 1.0), (4, 2, 1e4)]
)
def test_losses__finite_and_within_bounds(
    name: str, loss: Callable[..., Loss], samples: int, classes: int, scale: float
) -> None:
    adaptive = made(name, classes)
    student, teacher, given = batch(samples, classes, scale)
    teacher.requires_grad_()
    value = loss(temperature=adaptive)(Outputs(student), Outputs(teacher), given)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert teacher.grad is None
    assert all(p.grad.isfinite().all() for p in adaptive.parameters())
    low, high = ADAPTIVES[name][1:]
    heat = flat(adaptive(student, teacher, given.target)).detach()
    assert heat.dtype == torch.float32
    assert low * (1 - 1e-6) <= heat.min()
    assert heat.max() <= high * (1 + 1e-6)
    assert adaptive.low == low


@every
def test_losses__the_order_of_samples_and_autocast_change_nothing(name: str) -> None:
    student, teacher, given = batch(6, 5)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    plain = KD(made(name))(Outputs(student), Outputs(teacher), given)
    other = KD(made(name))(Outputs(student[order]), Outputs(teacher[order]), given._replace(target=given.target[order]))
    torch.testing.assert_close(other, plain, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = KD(made(name))(Outputs(student), Outputs(teacher), given)
    torch.testing.assert_close(mixed, plain, rtol=1e-6, atol=1e-7)


@every
def test_objective__prepares_it_and_logs_its_mean(name: str) -> None:
    adaptive = ADAPTIVES[name][0]()
    objective = Objective({"kd": KD(adaptive)}, {"kd": 1.0})
    objective.prepare({"logits": Spec((5,))}, {"logits": Spec((5,))})
    student, teacher, given = batch(6, 5)
    objective(Outputs(student), Outputs(teacher), given)
    assert objective.adaptive == {"kd.temperature": adaptive}
    total, count = adaptive.tally.tolist()
    assert ADAPTIVES[name][1] <= total / count <= ADAPTIVES[name][2]
    adaptive.eval()
    objective(Outputs(student), Outputs(teacher), given)
    assert adaptive.tally.tolist() == [total, count]
    other = made(name)
    other.load_state_dict(adaptive.state_dict())
    assert other.tally.tolist() == [total, count]


class Fixed(Adaptive):
    """Gives what it was told to give."""

    def __init__(self, heat: Heat) -> None:
        super().__init__()
        self.low, self.heat = 1.0, heat

    def temperatures(self, student: Tensor, teacher: Tensor, target: Tensor) -> Heat:
        return self.heat


def test_tally__mean_over_samples_geometric_over_a_pair() -> None:
    adaptive = Fixed((torch.tensor([1.0, 2.0]), torch.tensor([4.0, 8.0])))
    adaptive(*torch.zeros(2, 2, 3), torch.zeros(2, dtype=torch.int64))
    assert adaptive.tally.tolist() == [6.0, 2.0]


def test_kd__a_sample_each_is_the_mean_of_one_at_a_time() -> None:
    student, teacher, _ = batch(3, 5)
    heats, pair = torch.tensor([1.0, 2.5, 7.0]), torch.tensor([3.0, 0.5, 2.0])
    alone = [kd(student[i : i + 1], teacher[i : i + 1], float(heats[i])) for i in range(3)]
    torch.testing.assert_close(kd(student, teacher, heats), sum(alone) / 3)
    alone = [kd(student[i : i + 1], teacher[i : i + 1], (heats[i], pair[i])) for i in range(3)]
    torch.testing.assert_close(kd(student, teacher, (heats, pair)), sum(alone) / 3)


def test_set_progress__reaches_it_through_the_objective() -> None:
    adaptive = CTKD()
    objective = Objective({"kd": KD(adaptive)}, {"kd": 1.0})
    objective.set_progress(Progress(0.5, epoch=5, epochs=11))
    assert adaptive.strength == pytest.approx(-0.5)
