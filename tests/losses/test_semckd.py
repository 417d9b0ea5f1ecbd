"""SemCKD against loops over samples and pairs of stages."""

import pytest
import torch
from torch import Tensor

from distill.losses.semckd import Embed, SemCKD, semckd, similarity
from distill.outputs import Batch, Outputs, Spec


def batch(samples: int) -> Batch:
    zero = torch.zeros(samples, dtype=torch.int64)
    return Batch(torch.zeros(samples, 3, 4, 4), zero, zero, zero)


@pytest.mark.parametrize("shape", [(4, 3, 2), (1, 1, 1), (5, 2, 4)])
def test_semckd__value_and_gradient(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    attention = torch.randn(shape).softmax(2).requires_grad_()
    errors = torch.rand(shape, requires_grad=True)
    total = 0.0
    for n in range(shape[0]):
        for s in range(shape[1]):
            for t in range(shape[2]):
                total += attention[n, s, t].item() * errors[n, s, t].item()
    value = semckd(attention, errors)
    value.backward()
    assert value.item() == pytest.approx(total / shape[0] / shape[1], rel=1e-6)
    torch.testing.assert_close(errors.grad, attention.detach() / shape[0] / shape[1])


def test_similarity__products_of_all_pairs_and_zeros() -> None:
    feature = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    rows = similarity(feature, 5)
    assert rows.shape == (3, 5)
    assert torch.equal(rows[:, 3:], torch.zeros(3, 2))
    for i in range(3):
        for j in range(3):
            assert rows[i, j].item() == pytest.approx((feature[i] * feature[j]).sum().item(), rel=1e-5)


def embedded(embed: Embed, row: Tensor) -> Tensor:
    first, _, second = embed.double().layers
    hidden = (first.weight @ row + first.bias).clamp(min=0)
    found = second.weight @ hidden + second.bias
    return found / torch.sqrt((found**2).sum())


def test_forward__whole_value_by_hand() -> None:
    torch.manual_seed(0)
    loss = SemCKD(4, ["a", "b"], ["c", "d"])
    mine, others = {"a": Spec((3, 4, 4)), "b": Spec((5, 2, 2))}, {"c": Spec((2, 4, 4)), "d": Spec((4, 2, 2))}
    loss.prepare(mine, others)
    for part in loss.projections.modules():
        part.training = False  # batch norm with mean 0 and variance 1 is the division by sqrt(1 + eps)
    student = {k: torch.randn(4, *s.shape) for k, s in mine.items()}
    teacher = {k: torch.randn(4, *s.shape) for k, s in others.items()}
    value = loss(Outputs(torch.zeros(4, 5), student), Outputs(torch.zeros(4, 5), teacher), batch(4))

    loss = loss.double()
    total = torch.zeros((), dtype=torch.float64)
    for n in range(4):
        for i, s in enumerate("ab"):
            rows = [torch.stack([(f[n].double() * f[m].double()).sum() for m in range(4)]) for f in student.values()]
            query = embedded(loss.queries[i], rows[i])
            scores, errors = [], []
            for j, t in enumerate("cd"):
                row = torch.stack([(teacher[t][n].double() * teacher[t][m].double()).sum() for m in range(4)])
                scores.append(torch.exp(query @ embedded(loss.keys[j], row)))
                a, b = student[s][n : n + 1].double(), teacher[t][n : n + 1].double()
                if a.shape[-1] > b.shape[-1]:
                    a = a.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
                if b.shape[-1] > a.shape[-1]:
                    b = b.unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
                difference = loss.projections[i][j](a) - b
                errors.append((difference**2).mean())
            total = total + sum(x * e for x, e in zip(scores, errors, strict=True)) / sum(scores)
    assert value.item() == pytest.approx(total.item() / 4 / 2, rel=1e-5)


def test_forward__one_stage_of_the_teacher_gets_all_the_attention() -> None:
    torch.manual_seed(0)
    loss = SemCKD(4, ["a"], ["b"])
    loss.prepare({"a": Spec((3, 4, 4))}, {"b": Spec((2, 4, 4))})
    feature, goal = torch.randn(4, 3, 4, 4), torch.randn(4, 2, 4, 4)
    value = loss(Outputs(torch.zeros(4, 5), {"a": feature}), Outputs(torch.zeros(4, 5), {"b": goal}), batch(4))
    torch.testing.assert_close(value, (loss.projections[0][0](feature) - goal).square().mean())


def test_forward__batch_larger_than_the_attention_knows() -> None:
    loss = SemCKD(2, ["a"], ["b"])
    loss.prepare({"a": Spec((3, 4, 4))}, {"b": Spec((2, 4, 4))})
    outputs = [Outputs(torch.zeros(3, 5), {k: torch.randn(3, c, 4, 4)}) for k, c in (("a", 3), ("b", 2))]
    with pytest.raises(ValueError, match="samples=2 but the batch has 3; set it to the batch size"):
        loss(*outputs, batch(3))


@pytest.mark.parametrize("samples, taps", [(0, ["a"]), (4, [])])
def test_init__nothing_to_compare(samples: int, taps: list[str]) -> None:
    with pytest.raises(ValueError, match="name at least one of each"):
        SemCKD(samples, taps, ["b"])
