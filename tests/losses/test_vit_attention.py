"""ViT attention transfer against loops over heads and tokens."""

import pytest
import torch
from torch import Tensor

from distill.losses.vit_attention import ViTAttention, vit_attention
from distill.outputs import Batch, Outputs, Spec

from .test_minilm import rows


def oracle(student: Tensor, teacher: Tensor, heads: tuple[int, int]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    mine, other = (rows(fused, "qk", h) for fused, h in zip((student, teacher), heads, strict=True))
    samples, tokens = student.shape[:2]
    for n in range(samples):
        a, b = ([torch.stack(row) for row in zip(*side[n], strict=True)] for side in (mine, other))  # heads of a token
        for p, q in zip(a, b, strict=True):
            if heads[0] != heads[1]:
                p, q = p.mean(0, keepdim=True), q.mean(0, keepdim=True)
            total = total + (q * torch.log(q / p)).sum() / len(p) / tokens / samples
    return total


@pytest.mark.parametrize("heads", [(2, 2), (1, 4), (4, 2), (1, 1)])
@pytest.mark.parametrize("samples, tokens, width, other", [(2, 3, 4, 8), (1, 5, 8, 4)])
def test_vit_attention__value_and_gradient(
    samples: int, tokens: int, width: int, other: int, heads: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(samples, tokens, 3 * width, requires_grad=True),
        torch.randn(samples, tokens, 3 * other),
    )
    exact = student.detach().double().requires_grad_()
    value, expected = vit_attention(student, teacher, *heads), oracle(exact, teacher.double(), heads)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_vit_attention__zero_at_the_teacher_whatever_the_values_are() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 5, 24)
    student = teacher.clone()
    student[:, :, 16:] = 0
    assert vit_attention(student, teacher, 2, 2).item() == pytest.approx(0, abs=1e-7)


def test_forward__sum_over_layers() -> None:
    torch.manual_seed(0)
    loss = ViTAttention(["a", "b"], ["c", "d"], 2, 4)
    mine, other = Spec((5, 24)), Spec((5, 24))
    loss.prepare({"a": mine, "b": mine}, {"c": other, "d": other})
    student, teacher = ({k: torch.randn(3, 5, 24) for k in names} for names in ("ab", "cd"))
    zero, logits = torch.zeros(3, dtype=torch.int64), torch.zeros(3, 5)
    batch = Batch(torch.zeros(3, 3, 4, 4), zero, zero, zero)
    parts = [vit_attention(student[s], teacher[t], 2, 4) for s, t in ("ac", "bd")]
    torch.testing.assert_close(loss(Outputs(logits, student), Outputs(logits, teacher), batch), parts[0] + parts[1])


@pytest.mark.parametrize(
    "given, words",
    [
        ({"student_taps": ["a"], "teacher_taps": []}, "pair up"),
        ({"student_taps": [], "teacher_taps": []}, "pair up"),
        ({"student_heads": 0}, "heads must be at least 1"),
    ],
)
def test_init__mistakes(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ViTAttention(**given)


@pytest.mark.parametrize(
    "mine, other, words", [((5, 24), (9, 24), "as many tokens"), ((5, 24), (5, 15), "must divide")]
)
def test_prepare__taps_that_do_not_meet(mine: tuple, other: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ViTAttention(["a"], ["b"], 2, 2).prepare({"a": Spec(mine)}, {"b": Spec(other)})
