"""CompRess against loops over samples and queues."""

import pytest
import torch
from torch import Tensor

from distill.losses.compress import CompRess, compress
from distill.losses.tap_pair import unit
from distill.outputs import Batch, Outputs, Spec


def probabilities(vector: Tensor, queue: Tensor, tau: float) -> list[Tensor]:
    weights = [torch.exp((vector * q).sum() / tau) for q in queue]
    return [w / sum(weights) for w in weights]


def oracle(student: Tensor, teacher: Tensor, mine: Tensor, other: Tensor, tau: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher, strict=True):
        pairs = zip(probabilities(s, mine, tau), probabilities(t, other, tau), strict=True)
        total = total + sum(p * torch.log(p / q) for q, p in pairs)
    return total / len(student)


@pytest.mark.parametrize("tau", [0.04, 0.5])
@pytest.mark.parametrize("size, length, dims", [(1, 3, (2, 5)), (5, 8, (6, 4))])
def test_compress__value_and_gradient(size: int, length: int, dims: tuple[int, int], tau: float) -> None:
    (student, mine), (teacher, other) = ([unit(torch.randn(n, d)) for n in (size, length)] for d in dims)
    student.requires_grad_()
    exact = student.detach().double().requires_grad_()
    value = compress(student, teacher, mine, other, tau)
    expected = oracle(exact, teacher.double(), mine.double(), other.double(), tau)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)


def test_compress__zero_at_the_teacher() -> None:
    teacher, queue = unit(torch.randn(4, 5)), unit(torch.randn(9, 5))
    assert compress(teacher, teacher, queue, queue, 0.04).item() == pytest.approx(0, abs=1e-7)


def example(step: int, dim: int) -> tuple[Outputs, Outputs, Batch]:
    random = torch.Generator().manual_seed(step)
    mine, other = torch.randn(3, 4, generator=random), torch.randn(3, dim, generator=random)
    number = torch.arange(3)
    batch = Batch(torch.zeros(3, 1, 2, 2), number, number, number)
    return Outputs(torch.zeros(3, 2), {"a": mine}), Outputs(torch.zeros(3, 2), {"b": other}), batch


@pytest.mark.parametrize("queues, dim", [(1, 4), (2, 7)])
def test_forward__queues_of_earlier_images(queues: int, dim: int) -> None:
    loss = CompRess("a", "b", queues=queues, head="identity", queue=8, temperature=0.2)
    loss.prepare({"a": Spec((4,))}, {"b": Spec((dim,))})
    other = list(loss.queue_teacher.read().clone())
    mine = other if queues == 1 else list(loss.queue_student.read().clone())
    place = 0
    for step in range(4):
        student, teacher, batch = example(step, dim)
        s, t = unit(student.features["a"]), unit(teacher.features["b"])
        value = loss(student, teacher, batch)
        torch.testing.assert_close(value, compress(s, t, torch.stack(mine), torch.stack(other), 0.2))
        for a, b in zip(s, t, strict=True):
            mine[place] = a
            other[place] = b  # with one queue the two are one list
            place = (place + 1) % 8


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"queues": 3}, {"queue": 0}])
def test_init__out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0|must be 1 or 2|must hold at least 1"):
        CompRess(**wrong)


def test_prepare__queues_that_are_too_large() -> None:
    with pytest.raises(ValueError, match="queues of embeddings of 128,000 x 4,608 float32 take 2.36 GB"):
        CompRess("a", "b", queues=2).prepare({"a": Spec((512,))}, {"b": Spec((4096,))})
