"""SEED against loops over samples and the queue."""

import pytest
import torch
from torch import Tensor

from distill.losses.seed import SEED, seed
from distill.losses.tap_pair import unit
from distill.outputs import Batch, Outputs, Spec


def softmax(values: list[Tensor]) -> list[Tensor]:
    top = max(values)
    weights = [torch.exp(v - top) for v in values]
    return [w / sum(weights) for w in weights]


def oracle(student: Tensor, teacher: Tensor, queue: Tensor, tau_s: float, tau_t: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        among = [t, *queue]
        goal = softmax([(t * q).sum() / tau_t for q in among])
        told = softmax([(s * q).sum() / tau_s for q in among])
        total = total - sum(p * torch.log(q) for p, q in zip(goal, told, strict=True))
    return total / len(student)


@pytest.mark.parametrize("tau_s, tau_t", [(0.2, 1e-4), (0.2, 0.1), (1.0, 0.5)])
@pytest.mark.parametrize("size, length, dim", [(1, 3, 2), (5, 8, 6)])
def test_seed__value_and_gradient(size: int, length: int, dim: int, tau_s: float, tau_t: float) -> None:
    student, teacher, queue = (unit(torch.randn(n, dim)) for n in (size, size, length))
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    value = seed(student, teacher, queue, tau_s, tau_t)
    expected = oracle(exact, teacher.double(), queue.double(), tau_s, tau_t)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def example(step: int) -> tuple[Outputs, Outputs, Batch]:
    random = torch.Generator().manual_seed(step)
    mine, other = torch.randn(3, 4, generator=random), torch.randn(3, 4, generator=random)
    number = torch.arange(3)
    batch = Batch(torch.zeros(3, 1, 2, 2), number, number, number)
    return Outputs(torch.zeros(3, 2), {"a": mine}), Outputs(torch.zeros(3, 2), {"b": other}), batch


def test_forward__the_queue_holds_earlier_teacher_embeddings() -> None:
    loss = SEED("a", "b", head="identity", queue=8, tau_teacher=0.1)
    loss.prepare({"a": Spec((4,))}, {"b": Spec((4,))})
    queue = list(loss.queue.read().clone())
    place = 0
    for step in range(4):
        student, teacher, batch = example(step)
        mine, other = unit(student.features["a"]), unit(teacher.features["b"])
        value = loss(student, teacher, batch)
        torch.testing.assert_close(value, seed(mine, other, torch.stack(queue), 0.2, 0.1))
        for row in other:
            queue[place] = row
            place = (place + 1) % 8


def test_prepare__queue_that_is_too_large() -> None:
    with pytest.raises(ValueError, match="a queue of embeddings of 65,536 x 32,768 float32 take 8.59 GB"):
        SEED("a", "b").prepare({"a": Spec((4,))}, {"b": Spec((32768,))})


@pytest.mark.parametrize("wrong", [{"tau_student": 0.0}, {"tau_teacher": -1.0}, {"queue": 0}])
def test_init__out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0|must hold at least 1"):
        SEED(**wrong)
