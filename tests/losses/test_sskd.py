"""SSKD against loops over rotated images, and which of them it keeps."""

import copy
import math

import pytest
import torch
from torch import Tensor

from distill.losses.sskd import SSKD, cosines, kept, rotations, transfer
from distill.outputs import Batch, Outputs, Spec


def log_softmax(row: Tensor) -> list[Tensor]:
    total = sum(torch.exp(v) for v in row)
    return [torch.log(torch.exp(v) / total) for v in row]


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = log_softmax(student), log_softmax(teacher)
    return sum(torch.exp(b) * (b - a) for a, b in zip(s, t, strict=True))


def selected(scores: Tensor, target: list[int], ratio: float) -> list[int]:
    ranks = [sum(v > row[t] for v in row) for row, t in zip(scores.detach().tolist(), target, strict=True)]
    wrong = sorted((i for i, rank in enumerate(ranks) if rank), key=lambda i: ranks[i])
    return [i for i, rank in enumerate(ranks) if not rank] + wrong[: math.floor(ratio * len(wrong))]


def example(samples: int = 4, classes: int = 5) -> tuple[SSKD, Outputs, Outputs, Batch]:
    random = torch.Generator().manual_seed(1)

    def outputs(n: int, width: int) -> Outputs:
        return Outputs(
            2 * torch.randn(n, classes, generator=random), {"pooled": torch.randn(n, width, generator=random)}
        )

    loss = SSKD(ratio_tf=0.5)
    shapes = {"logits": Spec((classes,)), "pooled": Spec((6,))}
    loss.prepare(shapes, {**shapes, "pooled": Spec((8,))})
    student, teacher = outputs(samples, 6), outputs(samples, 8)
    student.views, teacher.views = {"rotations": outputs(3 * samples, 6)}, {"rotations": outputs(3 * samples, 8)}
    target = torch.randint(classes, (samples,), generator=random)
    number = torch.arange(samples)
    return loss, student, teacher, Batch(torch.zeros(samples, 3, 8, 8, dtype=torch.uint8), target, number, number)


def oracle(loss: SSKD, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    n = len(batch.target)
    target, source = batch.target.tolist() * 3, list(range(n)) * 3
    mine, other = student.views["rotations"], teacher.views["rotations"]
    rows = selected(other.logits, target, loss.ratio_tf)
    tf = sum(16 * kl(mine.logits[i].double() / 4, other.logits[i].double() / 4) for i in rows) / len(rows)
    matrices = []
    for head, plain, turned in ((loss.student_head, student, mine), (loss.teacher_head, teacher, other)):
        exact = copy.deepcopy(head).double()
        f, g = exact(plain.features["pooled"].double()), exact(turned.features["pooled"].double())
        matrices.append(torch.stack([torch.stack([a @ b / (a.norm() * b.norm()) for b in f]) for a in g]))
    a_s, a_t = matrices
    rows = selected(a_t, source, loss.ratio_ss)
    ss = sum(0.25 * kl(a_s[i] / 0.5, a_t[i] / 0.5) for i in rows) / len(rows)
    head_loss = -sum(log_softmax(a_t[i] / 0.5)[source[i]] for i in range(3 * n)) / (3 * n)
    return 2.7 * tf + 10 * ss + head_loss


def test_sskd__value_against_loops() -> None:
    loss, student, teacher, batch = example()
    value = loss(student, teacher, batch)
    torch.testing.assert_close(value.double(), oracle(loss, student, teacher, batch), rtol=1e-5, atol=1e-6)


def test_sskd__gradient_against_loops() -> None:
    loss, student, teacher, batch = example()
    leaves = [
        student.views["rotations"].logits.requires_grad_(),
        student.features["pooled"].requires_grad_(),
        student.views["rotations"].features["pooled"].requires_grad_(),
    ]
    found = torch.autograd.grad(loss(student, teacher, batch), leaves)
    wanted = torch.autograd.grad(oracle(loss, student, teacher, batch), leaves)
    for got, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_sskd__teachers_head_learns_by_its_own_loss_only() -> None:
    loss, student, teacher, batch = example()
    loss.ss = loss.tf = 0.0
    loss(student, teacher, batch).backward()
    assert all(p.grad.abs().sum() > 0 for n, p in loss.teacher_head.named_parameters() if n != "2.bias")
    assert all(p.grad is None or not p.grad.any() for p in loss.student_head.parameters())


def test_kept__right_ones_then_those_ranked_highest() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    target = torch.tensor([0, 2, 1, 2])
    assert kept(scores, target, 0.0).tolist() == [True, False, False, True]
    assert kept(scores, target, 0.5).tolist() == [True, False, True, True]
    assert kept(scores, target, 1.0).tolist() == [True, True, True, True]


def test_transfer__zero_at_the_teacher_and_where_nothing_is_kept() -> None:
    rows = torch.randn(4, 3)
    assert transfer(rows, rows, torch.ones(4, dtype=torch.bool), 4.0).item() == pytest.approx(0, abs=1e-6)
    assert transfer(rows, rows + torch.randn(4, 3), torch.zeros(4, dtype=torch.bool), 4.0).item() == 0


def test_cosines__scale_does_not_matter() -> None:
    a, b = torch.randn(4, 3), torch.randn(2, 3)
    torch.testing.assert_close(cosines(3 * a, 0.5 * b), cosines(a, b))


def test_rotations__by_angle_then_by_image() -> None:
    images = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    number = torch.arange(2)
    found = rotations(Batch(images, number, number, number))
    assert torch.equal(found[0], images[0].rot90(1, (1, 2)))
    assert torch.equal(found[5], images[1].rot90(3, (1, 2)))
    with pytest.raises(ValueError, match=r"must be square, not \(4, 5\)"):
        rotations(Batch(torch.zeros(2, 3, 4, 5), number, number, number))


@pytest.mark.parametrize("wrong", [{"ratio_ss": 1.5}, {"ratio_tf": -0.1}])
def test_init__ratios(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        SSKD(**wrong)
