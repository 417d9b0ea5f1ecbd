"""DKD against loops over samples and classes, and its identity with KD."""

import pytest
import torch
from torch import Tensor

from distill.losses.dkd import DKD, dkd, dkd_parts
from distill.losses.kd import kd
from distill.outputs import Spec


def probabilities(row: Tensor) -> list[Tensor]:
    powers = [torch.exp(z) for z in row]
    return [p / sum(powers) for p in powers]


def oracle(student: Tensor, teacher: Tensor, target: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    total = student.new_zeros(())
    for i, y in enumerate(target.tolist()):
        p, q = probabilities(teacher[i] / temperature), probabilities(student[i] / temperature)
        rest_p, rest_q = (sum(r[j] for j in range(len(r)) if j != y) for r in (p, q))
        total = total + alpha * (p[y] * torch.log(p[y] / q[y]) + rest_p * torch.log(rest_p / rest_q))
        for j in range(len(p)):
            if j != y:
                total = total + beta * p[j] / rest_p * torch.log((p[j] / rest_p) / (q[j] / rest_q))
    return temperature**2 * total / len(target)


@pytest.mark.parametrize("shape", [(1, 2), (4, 5), (3, 17)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("alpha, beta", [(1.0, 8.0), (1.0, 0.0), (0.0, 1.0)])
def test_dkd__value_and_gradient(shape: tuple[int, int], temperature: float, alpha: float, beta: float) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(shape, requires_grad=True), 3 * torch.randn(shape)
    target = torch.randint(shape[1], shape[:1])
    exact = student.detach().double().requires_grad_()
    value = dkd(student, teacher, target, temperature, alpha, beta)
    expected = oracle(exact, teacher.double(), target, temperature, alpha, beta)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.5, 4.0])
def test_dkd_parts__add_up_to_kd(temperature: float) -> None:
    torch.manual_seed(0)
    for target in range(6):
        student, teacher, y = 2 * torch.randn(1, 6), 2 * torch.randn(1, 6), torch.tensor([target])
        tckd, nckd = dkd_parts(student, teacher, y, temperature)
        rest = 1 - (teacher / temperature).softmax(1)[0, target]
        torch.testing.assert_close(
            tckd + rest * nckd, kd(student, teacher, temperature, t2=False), rtol=1e-4, atol=1e-6
        )


def test_dkd__zero_at_the_teacher() -> None:
    teacher = torch.randn(4, 7)
    student = teacher.clone().requires_grad_()
    value = dkd(student, teacher, torch.tensor([0, 6, 2, 2]), 4.0, 1.0, 8.0)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert student.grad.abs().max() < 1e-5


def test_dkd_parts__others_do_not_see_the_target_logit() -> None:
    torch.manual_seed(0)
    student, teacher, target = torch.randn(1, 6), torch.randn(1, 6), torch.tensor([3])
    raised = student.clone()
    raised[0, 3] += 5
    torch.testing.assert_close(dkd_parts(student, teacher, target, 2.0)[1], dkd_parts(raised, teacher, target, 2.0)[1])


def test_dkd_parts__two_classes_have_no_others_to_compare() -> None:
    assert dkd_parts(torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0, 1, 1]), 4.0)[1] == 0


def test_dkd__precise_where_the_student_is_certain() -> None:
    # others differ by 1 in 1e4: a log-softmax over all classes would round that away
    student, teacher, target = torch.tensor([[1e4, 1.0, 0.0]]), torch.tensor([[1e4, 0.0, 1.0]]), torch.tensor([0])
    p = torch.sigmoid(torch.tensor(1.0)).item()
    assert dkd_parts(student, teacher, target, 1.0)[1].item() == pytest.approx(p * 1 + (1 - p) * -1, rel=1e-5)


def test_dkd_parts__very_negative_others_stay_apart_from_the_target() -> None:
    # a finite mask, such as the -1000 of published code, would let the target in among the others here
    low = torch.tensor([[0.0, -8000.0, -8001.0]])
    student, teacher = low, low[:, [0, 2, 1]]
    tckd, nckd = dkd_parts(student, teacher, torch.tensor([0]), 1.0)
    p = torch.sigmoid(torch.tensor(1.0)).item()
    assert tckd.item() == 0
    assert nckd.item() == pytest.approx(p * 1 + (1 - p) * -1, rel=1e-5)


def test_dkd__t2_is_a_factor() -> None:
    args = torch.randn(4, 7), torch.randn(4, 7), torch.tensor([0, 6, 2, 2]), 3.0, 1.0, 8.0
    torch.testing.assert_close(dkd(*args), 9 * dkd(*args, t2=False))


def test_prepare__one_class() -> None:
    with pytest.raises(ValueError, match="needs at least 2 classes, got 1"):
        DKD().prepare({"logits": Spec((1,))}, {"logits": Spec((1,))})


def test_init__temperature() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        DKD(temperature=0.0)
