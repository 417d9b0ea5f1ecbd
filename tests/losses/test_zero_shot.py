"""Zero-shot KD against softmax by hand, and against KD of an anchored student's logits."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from distill.losses.kd import kd
from distill.losses.zero_shot import ZeroShot
from distill.outputs import Anchors, Batch, Outputs, TrainingSet

from .naive import rows


def met(text: Tensor, scale: float, **settings: object) -> ZeroShot:
    loss = ZeroShot(**settings)  # type: ignore[arg-type]
    loss.meet(TrainingSet(torch.arange(3), len(text), {"clip": Anchors(text, scale)}))
    return loss


def said(embedding: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 2), {"image_embedding": embedding})


def batch(samples: int) -> Batch:
    zero = torch.zeros(samples, dtype=torch.int64)
    return Batch(torch.zeros(samples, 3, 4, 4), zero, zero, zero)


def oracle(student: Tensor, teacher: Tensor, text: Tensor, scale: float, temperature: float) -> Tensor:
    logits = [
        torch.stack([torch.stack([scale * (v @ c) / torch.sqrt(v @ v) for c in text]) for v in vectors])
        for vectors in (student, teacher)
    ]
    p_s, p_t = (rows(z, temperature) for z in logits)
    total = sum(q * torch.log(q / p) for a, b in zip(p_s, p_t, strict=True) for p, q in zip(a, b, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("samples, width, classes", [(1, 3, 2), (4, 8, 5), (3, 5, 17)])
@pytest.mark.parametrize("scale, temperature", [(1.0, 1.0), (20.0, 2.0), (100.0, 4.0)])
def test_zero_shot__value_and_gradient(
    samples: int, width: int, classes: int, scale: float, temperature: float
) -> None:
    text = normalize(torch.randn(classes, width), dim=1)
    student, teacher = torch.randn(samples, width, requires_grad=True), torch.randn(samples, width)
    exact = student.detach().double().requires_grad_()
    value = met(text, scale, temperature=temperature)(said(student), said(teacher), batch(samples))
    expected = oracle(exact, teacher.double(), text.double(), scale, temperature)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-3, atol=1e-5 * scale)


def test_zero_shot__is_kd_of_the_logits_of_an_anchored_student() -> None:
    text = normalize(torch.randn(6, 8), dim=1)
    student, teacher = normalize(torch.randn(2, 4, 8), dim=2)
    value = met(text, 14.3, temperature=2.0)(said(student), said(teacher), batch(4))
    torch.testing.assert_close(value, kd(14.3 * student @ text.T, 14.3 * teacher @ text.T, 2.0))
    assert met(text, 14.3)(said(teacher), said(teacher), batch(4)).item() == pytest.approx(0, abs=1e-6)


def test_zero_shot__reads_no_label() -> None:
    text = normalize(torch.randn(6, 8), dim=1)
    student, teacher = torch.randn(2, 4, 8)
    loss = met(text, 10.0)
    other = batch(4)._replace(target=torch.tensor([5, 4, 3, 2]))
    assert torch.equal(loss(said(student), said(teacher), batch(4)), loss(said(student), said(teacher), other))


def test_meet__without_text_vectors() -> None:
    with pytest.raises(ValueError, match="the teacher embeds no text; choose an image-text teacher"):
        ZeroShot().meet(TrainingSet(torch.arange(3), 3))


def test_meet__of_several_teachers_the_tap_names_one() -> None:
    both = {name: Anchors(normalize(torch.randn(3, 4), dim=1), 10.0) for name in ("a", "b")}
    loss = ZeroShot(teacher_tap="b/image_embedding")
    loss.meet(TrainingSet(torch.arange(3), 3, both))
    assert loss.classes is not None
    assert torch.equal(loss.classes.text, both["b"].text)
    with pytest.raises(ValueError, match="those of a, b are there, name one as in teacher/tap"):
        ZeroShot().meet(TrainingSet(torch.arange(3), 3, both))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_init__temperature(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        ZeroShot(temperature=temperature)
