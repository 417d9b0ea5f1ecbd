"""Losses over answers against loops."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.answer_bce import AnswerBCE, answer_bce
from distill.losses.bce import BCE, bce
from distill.outputs import Batch, Outputs, Spec


def oracle(logits: Tensor, credit: Tensor) -> float:
    total = 0.0
    for row, right in zip(logits.tolist(), credit.tolist(), strict=True):
        for z, s in zip(row, right, strict=True):
            p = 1 / (1 + math.exp(-z))
            total -= s * math.log(p) + (1 - s) * math.log(1 - p)
    return total / len(logits)


def draw(n: int, k: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return 3 * torch.randn(n, k, generator=random), torch.rand(n, k, generator=random)


@pytest.mark.parametrize("n, k", [(4, 5), (1, 1), (3, 17)])
def test_bce__value_and_gradient(n: int, k: int) -> None:
    logits, credit = draw(n, k)
    logits.requires_grad_()
    value = bce(logits, credit)
    assert value.item() == pytest.approx(oracle(logits, credit), rel=1e-5)
    value.backward()
    torch.testing.assert_close(logits.grad, (logits.detach().sigmoid() - credit) / n)
    assert bce(logits, credit, "mean").item() == pytest.approx(oracle(logits, credit) / k, rel=1e-5)


def test_bce__credit_of_the_batch_or_its_label() -> None:
    logits, credit = draw(4, 5)
    target, number = torch.tensor([4, 0, 2, 2]), torch.arange(4)
    batch = Batch(torch.zeros(4, 3, 2, 2), target, number, number)
    expected = oracle(logits, torch.eye(5)[target])
    assert BCE()(Outputs(logits), None, batch).item() == pytest.approx(expected, rel=1e-5)
    assert BCE()(Outputs(logits), None, batch._replace(scores=credit)).item() == pytest.approx(
        oracle(logits, credit), rel=1e-5
    )


def test_answer_bce__least_at_the_teacher_where_it_is_its_entropy() -> None:
    teacher = draw(4, 5)[0]
    p = teacher.double().sigmoid()
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum(1).mean().item()
    student = teacher.clone().requires_grad_()
    value = answer_bce(student, teacher)
    value.backward()
    assert value.item() == pytest.approx(entropy, rel=1e-5)
    assert student.grad.abs().max() < 1e-7
    assert answer_bce(teacher + 0.3, teacher) > value


def test_answer_bce__is_the_paper_s_mean_times_answers() -> None:
    student, teacher = draw(4, 5)
    assert answer_bce(student, teacher).item() == pytest.approx(oracle(student, teacher.sigmoid()), rel=1e-5)
    assert 5 * answer_bce(student, teacher, "mean").item() == pytest.approx(answer_bce(student, teacher).item())


@pytest.mark.parametrize("make", [BCE, AnswerBCE])
def test_init__scale(make: type) -> None:
    with pytest.raises(ValueError, match="scale must be one of sum, mean, got 'batchmean'"):
        make("batchmean")


def test_prepare__answers_that_differ_in_number() -> None:
    with pytest.raises(ValueError, match=r"student's logits have shape \(5,\) and the teacher's \(9,\)"):
        AnswerBCE().prepare({"logits": Spec((5,))}, {"logits": Spec((9,))})
