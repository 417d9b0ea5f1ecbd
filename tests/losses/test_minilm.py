"""MiniLM against loops over heads and tokens."""

import math

import pytest
import torch
from torch import Tensor

from distill.losses.minilm import MiniLM, minilm, relation
from distill.outputs import Spec


def rows(fused: Tensor, pair: str, heads: int) -> list[list[list[Tensor]]]:
    """Give the relation of each sample, head and token as a list of probabilities."""
    width = fused.shape[2] // 3
    size = width // heads
    found = []
    for sample in fused:
        of_heads = []
        for h in range(heads):
            parts = {p: sample[:, i * width + h * size : i * width + (h + 1) * size] for i, p in enumerate("qkv")}
            of_tokens = []
            for x in parts[pair[0]]:
                scores = [torch.exp((x * y).sum() / math.sqrt(size)) for y in parts[pair[1]]]
                of_tokens.append(torch.stack([s / sum(scores) for s in scores]))
            of_heads.append(of_tokens)
        found.append(of_heads)
    return found


def oracle(student: Tensor, teacher: Tensor, relations: list[str], heads: int) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for pair in relations:
        for mine, other in zip(rows(student, pair, heads), rows(teacher, pair, heads), strict=True):
            for h in range(heads):
                for p, q in zip(mine[h], other[h], strict=True):
                    total = total + (q * torch.log(q / p)).sum() / heads / student.shape[1] / student.shape[0]
    return total


@pytest.mark.parametrize("samples, tokens, width, other, heads", [(2, 3, 4, 8, 2), (1, 5, 6, 6, 3), (3, 2, 4, 4, 1)])
@pytest.mark.parametrize("relations", [["qq", "kk", "vv"], ["qk", "vv"], ["qk"]])
def test_minilm__value_and_gradient(
    samples: int, tokens: int, width: int, other: int, heads: int, relations: list[str]
) -> None:
    torch.manual_seed(0)
    student, teacher = (
        torch.randn(samples, tokens, 3 * width, requires_grad=True),
        torch.randn(samples, tokens, 3 * other),
    )
    exact = student.detach().double().requires_grad_()
    value, expected = minilm(student, teacher, relations, heads), oracle(exact, teacher.double(), relations, heads)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-7)


def test_minilm__zero_at_the_teacher_and_for_one_token() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 5, 24)
    assert minilm(teacher, teacher, ["qq", "kk", "vv"], 4).item() == pytest.approx(0, abs=1e-7)
    assert minilm(torch.randn(2, 1, 12), torch.randn(2, 1, 24), ["qk"], 2) == 0


def test_minilm__ignores_a_rotation_within_a_head() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(2, 5, 12)
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    student = (teacher.unflatten(2, (3, 4)) @ rotation).flatten(2)
    assert minilm(student, teacher, ["qq", "kk", "vv", "qk"], 1).item() == pytest.approx(0, abs=1e-6)
    assert minilm(student, teacher, ["qq"], 2) > 0.01


def test_relation__is_the_attention_of_a_layer_of_timm() -> None:
    from timm.layers import Attention

    torch.manual_seed(0)
    layer = Attention(8, num_heads=2, qkv_bias=True).eval()
    layer.proj = torch.nn.Identity()
    tokens = torch.randn(2, 5, 8)
    fused = layer.qkv(tokens)
    values = fused[:, :, 16:].unflatten(2, (2, 4)).transpose(1, 2)
    found = relation(fused, "qk", 2).exp() @ values
    torch.testing.assert_close(found.transpose(1, 2).flatten(2), layer(tokens))


@pytest.mark.parametrize("given", [{"relations": []}, {"relations": ["qx"]}, {"relations": ["q"]}, {"heads": 0}])
def test_init__mistakes(given: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        MiniLM(**given)


@pytest.mark.parametrize(
    "mine, other, words", [((5, 24), (10, 24), "as many tokens"), ((5, 24), (5, 30), "heads=4 must divide")]
)
def test_prepare__taps_that_do_not_meet(mine: tuple, other: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MiniLM("a", "b", heads=4).prepare({"a": Spec(mine)}, {"b": Spec(other)})
