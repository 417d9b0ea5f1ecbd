"""CLIP-KD's feature distance against loops over samples and entries."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.clip_feature import CLIPFeature, clip_feature
from distill.outputs import Batch, Outputs, Spec


def oracle(student: Tensor, teacher: Tensor, distance: str) -> Tensor:
    values = []
    for s, t in zip(student, teacher, strict=True):
        a, b = s / torch.sqrt(sum(v * v for v in s)), t / torch.sqrt(sum(v * v for v in t))
        values.append(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(s) if distance == "mse" else 1 - a @ b)
    return sum(values) / len(values)


@pytest.mark.parametrize("distance", ["mse", "cosine"])
@pytest.mark.parametrize("shape", [(1, 3), (4, 8), (7, 5)])
def test_clip_feature__value_and_gradient(shape: tuple[int, int], distance: str) -> None:
    student, teacher = torch.randn(shape, requires_grad=True), torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    value, expected = clip_feature(student, teacher, distance), oracle(exact, teacher.double(), distance)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_clip_feature__zero_at_the_teacher_whatever_its_length() -> None:
    teacher = torch.randn(5, 6)
    assert clip_feature(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-12)
    assert clip_feature(0.1 * teacher, teacher, "cosine").item() == pytest.approx(0, abs=1e-6)


def test_clip_feature__published_weight_is_7_8_cosines_at_512() -> None:
    student, teacher = torch.randn(6, 512), torch.randn(6, 512)
    mse, cosine = clip_feature(student, teacher), clip_feature(student, teacher, "cosine")
    assert 2000 * mse.item() == pytest.approx(7.8125 * cosine.item(), rel=1e-5)


def test_clip_feature__by_hand() -> None:
    """Vectors at 60 degrees: the cosine is 1/2, the squared difference 1 in two entries."""
    student, teacher = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, math.sqrt(3)]])
    assert clip_feature(student, teacher).item() == pytest.approx(0.5)
    assert clip_feature(student, teacher, "cosine").item() == pytest.approx(0.5)


def test_forward__a_student_that_embeds_text_has_the_sum_of_both() -> None:
    loss = CLIPFeature(student_text_tap="words", teacher_text_tap="text_embedding")
    assert loss.student_taps() == ("image_embedding", "words")
    assert loss.teacher_taps() == ("image_embedding", "text_embedding")
    image_s, image_t, text_s, text_t = torch.randn(4, 3, 5)
    zero = torch.zeros(3, dtype=torch.int64)
    batch = Batch(torch.zeros(3, 3, 4, 4), zero, zero, zero)
    value = loss(
        Outputs(torch.zeros(3, 2), {"image_embedding": image_s, "words": text_s}),
        Outputs(torch.zeros(3, 2), {"image_embedding": image_t, "text_embedding": text_t}),
        batch,
    )
    torch.testing.assert_close(value, clip_feature(image_s, image_t) + clip_feature(text_s, text_t))


def test_prepare__another_width_names_both_and_the_fix() -> None:
    with pytest.raises(ValueError, match=r"has shape \(64,\).*\(512,\).*student\.width=512, not 64"):
        CLIPFeature().prepare({"image_embedding": Spec((64,))}, {"image_embedding": Spec((512,))})


def test_init__distance() -> None:
    with pytest.raises(ValueError, match="distance must be one of mse, cosine, got 'l1'"):
        CLIPFeature(distance="l1")
