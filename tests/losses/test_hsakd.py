"""HSAKD against loops over rotated images and stages."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.hsakd import HSAKD, joint_labels
from distill.outputs import Batch, Outputs, Spec

STAGES = {"stage1": (3, 8, 8), "stage2": (4, 4, 4), "stage3": (6, 2, 2)}
OTHER = {"stage1": (5, 8, 8), "stage2": (6, 8, 8), "stage3": (7, 4, 4)}


def log_softmax(row: Tensor) -> list[Tensor]:
    total = sum(torch.exp(v) for v in row)
    return [torch.log(torch.exp(v) / total) for v in row]


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = log_softmax(student), log_softmax(teacher)
    return sum(torch.exp(b) * (b - a) for a, b in zip(s, t, strict=True))  # type: ignore[return-value]


def example(samples: int = 3, labels: int = 4, **arguments: float) -> tuple[HSAKD, Outputs, Outputs, Batch]:
    torch.manual_seed(0)
    loss = HSAKD(list(STAGES), list(OTHER), **arguments)
    specs = [{"logits": Spec((labels,))} | {k: Spec(s) for k, s in maps.items()} for maps in (STAGES, OTHER)]
    loss.prepare(*specs)

    def outputs(n: int, maps: dict[str, tuple[int, ...]]) -> Outputs:
        return Outputs(torch.randn(n, labels), {k: torch.randn(n, *s) for k, s in maps.items()})

    student, teacher = (outputs(samples, maps) for maps in (STAGES, OTHER))
    for one, maps in ((student, STAGES), (teacher, OTHER)):
        one.views = {"rotations": outputs(3 * samples, maps)}
    for one in (student, student.views["rotations"]):
        for tensor in (one.logits, *one.features.values()):
            tensor.requires_grad_()
    number = torch.arange(samples)
    return loss, student, teacher, Batch(torch.zeros(samples, 3, 8, 8), number % labels, number, number)


def oracle(
    loss: HSAKD, student: Outputs, teacher: Outputs, batch: Batch, t: float, joint: float, classes: float
) -> Tensor:
    """Every row by itself; the heads are float64 copies, for their batch norms look at the whole batch."""
    n = 4 * len(batch.target)

    def both(one: Outputs, tap: str) -> Tensor:
        return torch.cat([one.features[tap], one.views["rotations"].features[tap]]).double()

    total = torch.zeros((), dtype=torch.float64)
    for stage, name in enumerate(STAGES):
        heads = [copy.deepcopy(found[stage]).double() for found in (loss.student_heads, loss.teacher_heads)]
        mine, other = heads[0](both(student, name)), heads[1](both(teacher, name)).detach()
        for row in range(n):
            total = total + joint * t * t * kl(mine[row] / t, other[row] / t) / n
            turned, sample = divmod(row, len(batch.target))
            label = 4 * int(batch.target[sample]) + turned
            total = total - log_softmax(other[row])[label] / n
    logits = [torch.cat([one.logits, one.views["rotations"].logits]).double() for one in (student, teacher)]
    for row in range(n):
        total = total + classes * t * t * kl(logits[0][row] / t, logits[1][row] / t) / n
    return total


@pytest.mark.parametrize(("temperature", "joint", "classes"), [(3.0, 1.0, 1.0), (1.0, 0.5, 2.0), (4.0, 0.0, 1.0)])
def test_hsakd__value_and_gradient(temperature: float, joint: float, classes: float) -> None:
    loss, student, teacher, batch = example(temperature=temperature, joint=joint, classes=classes)
    expected = oracle(loss, student, teacher, batch, temperature, joint, classes)
    leaves = [student.logits, student.views["rotations"].logits, *student.features.values()]
    wanted = torch.autograd.grad(expected, leaves, allow_unused=True)
    value = loss(student, teacher, batch)
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for found, want in zip(torch.autograd.grad(value, leaves), wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)


def test_hsakd__the_teachers_classifiers_learn_by_the_labels_only() -> None:
    loss, student, teacher, batch = example()
    head = loss.teacher_heads[1]
    expected = copy.deepcopy(head)
    maps = torch.cat([teacher.features["stage2"], teacher.views["rotations"].features["stage2"]])
    F.cross_entropy(expected(maps), joint_labels(batch.target)).backward()
    loss(student, teacher, batch).backward()
    for found, want in zip(head.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found.grad, want.grad)


def test_prepare__classifiers_halve_as_the_network_does() -> None:
    loss, *_ = example()
    for heads, maps in ((loss.student_heads, STAGES), (loss.teacher_heads, OTHER)):
        for stage, head in enumerate(heads):
            rest = list(maps.values())[stage:]
            sizes = []
            x = torch.randn(2, *rest[0])
            for layer in head:
                x = layer(x)
                sizes.append(tuple(x.shape[1:]))
            assert sizes == [*(rest[1:] or rest), (rest[-1][0], 1, 1), (rest[-1][0],), (16,)]
            assert isinstance(head[-1], nn.Linear)


def test_joint_labels__name_class_and_rotation_once() -> None:
    assert joint_labels(torch.tensor([0, 2])).tolist() == [0, 8, 1, 9, 2, 10, 3, 11]
    assert sorted(joint_labels(torch.arange(5)).tolist()) == list(range(20))


def test_init__refuses_stages_that_are_not_as_many() -> None:
    with pytest.raises(ValueError, match="must be as many"):
        HSAKD(["stage1"], ["stage1", "stage2"])


def test_prepare__refuses_maps_that_grow() -> None:
    maps = {"stage1": Spec((3, 4, 4)), "stage2": Spec((3, 8, 8)), "logits": Spec((2,))}
    with pytest.raises(ValueError, match="name maps, from the largest to the smallest"):
        HSAKD(["stage1", "stage2"], ["stage1", "stage2"]).prepare(maps, maps)
