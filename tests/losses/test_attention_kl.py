"""Attention KL against loops over samples, heads, words and cells."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.losses.attention_kl import AttentionKL, attention_kl
from distill.losses.attention_maps import by_word, coarser, membership, shares, to_word
from distill.outputs import Batch, Outputs, Spec

ZERO = torch.zeros(2, dtype=torch.int64)
BATCH = Batch(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ZERO, ZERO, ZERO)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


def kl(q: Tensor, p: Tensor) -> float:
    """Sum of q log(q / p) over the entries of two distributions."""
    return sum(b * math.log(b / a) for a, b in zip(p.flatten().tolist(), q.flatten().tolist(), strict=True))


def exactly(value: Tensor, expected: float) -> None:
    assert value.item() == pytest.approx(expected, rel=2e-5, abs=1e-7)


def run(loss: AttentionKL, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Tensor:
    logits = torch.zeros(2, 5)
    specs = [{k: Spec(tuple(v.shape[1:])) for k, v in side.items()} for side in (student, teacher)]
    loss.prepare(*specs)
    floats = [{k: v.float() if v.is_floating_point() else v for k, v in side.items()} for side in (student, teacher)]
    return loss(Outputs(logits, floats[0]), Outputs(logits, floats[1]), BATCH)


@pytest.mark.parametrize("shape", [(2, 3, 4, 9), (1, 1, 1, 4), (3, 2, 5, 2)])
def test_attention_kl__value(shape: tuple[int, ...]) -> None:
    student, teacher = random(*shape), random(*shape, seed=1)
    n, heads, queries, _ = shape
    rows = [(i, h, q) for i in range(n) for h in range(heads) for q in range(queries)]
    exactly(attention_kl(student.float(), teacher.float()), sum(kl(teacher[r], student[r]) for r in rows) / len(rows))


def test_attention_kl__gradient_through_softmax_is_the_difference() -> None:
    scores = torch.randn(2, 3, 4, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()
    teacher = random(2, 3, 4, 9, seed=1)
    attention_kl(scores.softmax(-1), teacher.float()).backward()
    expected = (scores.detach().double().softmax(-1) - teacher) / (2 * 3 * 4)
    torch.testing.assert_close(scores.grad.double(), expected, rtol=1e-4, atol=1e-7)


def test_attention_kl__uniform_teacher_is_cross_entropy_less_its_entropy() -> None:
    student = random(2, 2, 3, 8)
    uniform = torch.full_like(student, 1 / 8)
    exactly(attention_kl(student.float(), uniform.float()), (-student.log().mean(-1)).mean().item() - math.log(8))


def test_attention_kl__zero_at_the_teacher_and_unchanged_by_order_and_sum() -> None:
    student, teacher = random(2, 2, 3, 8).float(), random(2, 2, 3, 8, seed=1).float()
    assert attention_kl(teacher, teacher).item() == pytest.approx(0, abs=1e-7)
    value, order = attention_kl(student, teacher).item(), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    exactly(attention_kl(student[..., order], teacher[..., order]), value)
    exactly(attention_kl(7 * student, 0.1 * teacher), value)


def test_attention_kl__queries_that_do_not_count() -> None:
    student, teacher = random(2, 2, 3, 5), random(2, 2, 3, 5, seed=1)
    counts = torch.tensor([[True, False, True], [False, False, False]])
    expected = sum(kl(teacher[0, h, q], student[0, h, q]) for h in (0, 1) for q in (0, 2)) / 4 / 2
    exactly(attention_kl(student.float(), teacher.float(), counts), expected)


def test_attention_kl__masked_keys_are_nowhere_infinite() -> None:
    scores = torch.randn(2, 2, 3, 5, requires_grad=True)
    there = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)[:, None, None]
    teacher = random(2, 2, 3, 5, seed=1).float()
    # as public code has it: minus infinity at what is masked, on both sides, times the mask
    trap = F.kl_div(scores.masked_fill(~there, -torch.inf).log_softmax(-1), teacher * there, reduction="none") * there
    assert trap.isnan().any()
    value = attention_kl(scores.softmax(-1), teacher, there=there)
    value.backward()
    assert value.isfinite()
    assert scores.grad.isfinite().all()
    assert scores.grad[1].abs().max() == 0
    kept = [shares(x[..., :3]) for x in (scores.detach().softmax(-1), teacher)]
    exactly(value, (kept[1] * (kept[1] / kept[0]).log()).sum(-1)[0].mean().item() / 2)


def test_attention_kl__a_share_that_underflows_is_finite() -> None:
    student = torch.tensor([[[[200.0, 0.0, -200.0]]]], requires_grad=True)
    value = attention_kl(student.softmax(-1), torch.tensor([[[[0.0, 0.0, 1.0]]]]))
    value.backward()
    assert value.item() == pytest.approx(-math.log(1e-8), rel=1e-4)
    assert student.grad.isfinite().all()


# -- heads ------------------------------------------------------------------------------------------------------------


def test_heads__mean() -> None:
    student, teacher = random(2, 2, 12).view(2, 2, 3, 4), random(2, 5, 12, seed=1).view(2, 5, 3, 4)
    expected = sum(kl(teacher[i].mean(0), student[i].mean(0)) for i in range(2)) / 2
    exactly(run(AttentionKL(), {"attention": student}, {"attention": teacher}), expected)


def test_heads__adapter_starts_at_the_mean_and_mixes_by_shares() -> None:
    student, teacher = random(2, 2, 12).view(2, 2, 3, 4), random(2, 3, 12, seed=1).view(2, 3, 3, 4)
    loss = AttentionKL(heads="adapter")
    first = run(loss, {"attention": student}, {"attention": teacher})
    exactly(first, sum(kl(teacher[i].mean(0), student[i, h]) for i in range(2) for h in range(2)) / 4)
    assert loss.mixing.shape == (2, 3)
    with torch.no_grad():
        loss.mixing.copy_(torch.tensor([[0.0, 1.0, 2.0], [50.0, 0.0, 0.0]]))
    shared = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).softmax(0)
    mixed = [(shared[0] * t[0] + shared[1] * t[1] + shared[2] * t[2], t[0]) for t in teacher]
    outputs = [Outputs(torch.zeros(2, 5), {"attention": x.float()}) for x in (student, teacher)]
    expected = sum(kl(mixed[i][h], student[i, h]) for i in range(2) for h in range(2)) / 4
    exactly(loss(*outputs, BATCH), expected)


def test_heads__cosine_weighs_every_pair() -> None:
    student, teacher = random(2, 2, 12).view(2, 2, 3, 4), random(2, 3, 12, seed=1).view(2, 3, 3, 4)
    expected = 0.0
    for i in range(2):
        for t in teacher[i]:
            cosines = [float((t * s).sum() / t.norm() / s.norm()) for s in student[i]]
            total = sum(map(math.exp, cosines))
            expected += sum(math.exp(c) / total * kl(t, s) for c, s in zip(cosines, student[i], strict=True)) / 3 / 2
    exactly(run(AttentionKL(heads="cosine"), {"attention": student}, {"attention": teacher}), expected)


def test_heads__cosine_in_another_order_is_the_same() -> None:
    student, teacher = random(2, 2, 12).view(2, 2, 3, 4), random(2, 3, 12, seed=1).view(2, 3, 3, 4)
    value = run(AttentionKL(heads="cosine"), {"attention": student}, {"attention": teacher}).item()
    turned = {"attention": student.flip(1)}, {"attention": teacher[:, [2, 0, 1]]}
    exactly(run(AttentionKL(heads="cosine"), *turned), value)


# -- grids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mine, other", [((4, 4), (2, 2)), ((2, 2), (4, 4)), ((4, 2), (2, 4)), ((6, 4), (3, 2))])
def test_grids__meet_on_the_coarser(mine: tuple[int, int], other: tuple[int, int]) -> None:
    student = random(2, 1, mine[0] * mine[1]).view(2, 1, *mine)
    teacher = random(2, 1, other[0] * other[1], seed=1).view(2, 1, *other)
    rows, columns = min(mine[0], other[0]), min(mine[1], other[1])

    def pooled(one: Tensor) -> Tensor:
        high, wide = one.shape[0] // rows, one.shape[1] // columns
        found = torch.zeros(rows, columns, dtype=torch.float64)
        for r in range(one.shape[0]):
            for c in range(one.shape[1]):
                found[r // high, c // wide] += one[r, c]  # sums of shares are shares
        return found

    expected = sum(kl(pooled(teacher[i, 0]), pooled(student[i, 0])) for i in range(2)) / 2
    exactly(run(AttentionKL(), {"attention": student}, {"attention": teacher}), expected)


def test_grids__that_do_not_divide_are_distributions_again() -> None:
    one, other = coarser(random(2, 3, 49).view(2, 3, 7, 7).float(), random(2, 3, 16).view(2, 3, 4, 4).float())
    assert one.shape == other.shape == (2, 3, 4, 4)
    torch.testing.assert_close(shares(one.flatten(2)).sum(-1), torch.ones(2, 3))


# -- words ------------------------------------------------------------------------------------------------------------

MINE = torch.tensor([[0, 1, 2, -1], [0, 1, -1, -1]])  # a word each, then filling
OTHER = torch.tensor([[-1, 0, 0, 1, 2, -1], [-1, 0, 1, 1, 1, -1]])  # pieces between special tokens


def words_example() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    student = {"attention_tokens": random(2, 2, 4, 6).view(2, 2, 4, 2, 3), "words": MINE}
    teacher = {"attention_tokens": random(2, 3, 6, 6, seed=1).view(2, 3, 6, 2, 3), "words": OTHER.float()}
    student["attention_i2t"] = random(2, 2, 2, 3, 4, seed=2)
    teacher["attention_i2t"] = random(2, 3, 2, 3, 6, seed=3)
    return student, teacher


def of_word(side: dict[str, Tensor], i: int, word: int) -> Tensor:
    at = [k for k, w in enumerate(side["words"][i].tolist()) if w == word]
    return sum(side["attention_tokens"][i].mean(0)[k] for k in at) / len(at)


WORDS = {"student_tap": "attention_tokens", "teacher_tap": "attention_tokens", "tokens": "words"}


def test_words__of_two_tokenizers() -> None:
    student, teacher = words_example()
    expected = 0.0
    for i, count in ((0, 3), (1, 2)):
        expected += sum(kl(of_word(teacher, i, w), of_word(student, i, w)) for w in range(count)) / count / 2
    exactly(run(AttentionKL(**WORDS), student, teacher), expected)


def test_words__and_back() -> None:
    student, teacher = words_example()
    forth = run(AttentionKL(**WORDS), student, teacher).item()
    both = run(AttentionKL(**WORDS, i2t=0.5), student, teacher).item()
    back = 0.0
    for i, count in ((0, 3), (1, 2)):
        for r in range(2):
            for c in range(3):
                p, q = torch.zeros(2, count, dtype=torch.float64), torch.zeros(3, count, dtype=torch.float64)
                for side, found in ((student, p), (teacher, q)):
                    for k, word in enumerate(side["words"][i].tolist()):
                        if word >= 0:
                            found[:, int(word)] += side["attention_i2t"][i, :, r, c, k]
                p, q = ((x / x.sum(1, keepdim=True)).mean(0) for x in (p, q))
                back += kl(q, p) / 6 / 2
    assert both == pytest.approx(forth + 0.5 * back, rel=2e-5)


def test_words__what_fills_up_and_special_tokens_change_nothing() -> None:
    student, teacher = words_example()
    value = run(AttentionKL(**WORDS, i2t=1), student, teacher).item()
    teacher["attention_tokens"][:, :, 0] = random(2, 3, 6, seed=9).view(2, 3, 2, 3)
    student["attention_tokens"][0, :, 3] = 1 / 6
    exactly(run(AttentionKL(**WORDS, i2t=1), student, teacher), value)


def test_words__none_in_common_is_zero_and_has_a_gradient() -> None:
    student, teacher = words_example()
    student["words"] = torch.full((2, 4), -1)
    student["attention_tokens"].requires_grad_()
    value = run(AttentionKL(**WORDS, i2t=1), student, teacher)
    value.backward()
    assert value.item() == 0
    assert student["attention_tokens"].grad.abs().max() == 0


def test_words__grids_meet_too() -> None:
    student, teacher = words_example()
    student["attention_tokens"] = random(2, 2, 4, 24).view(2, 2, 4, 4, 6)
    student["attention_i2t"] = random(2, 2, 4, 6, 4)
    fine = run(AttentionKL(**WORDS, i2t=1), student, teacher).item()
    sums = student["attention_tokens"].view(2, 2, 4, 2, 2, 3, 2).sum((4, 6))
    means = student["attention_i2t"].view(2, 2, 2, 2, 3, 2, 4).mean((3, 5))
    coarse = run(AttentionKL(**WORDS, i2t=1), {**student, "attention_tokens": sums, "attention_i2t": means}, teacher)
    exactly(coarse, fine)


def test_by_word_and_to_word__mean_and_sum() -> None:
    parts = membership(OTHER, 3)
    assert parts[0].tolist() == [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    attention = torch.arange(12.0).view(2, 1, 6)
    assert to_word(attention, parts).tolist() == [[[3, 3, 4]], [[7, 27, 0]]]
    assert by_word(attention[..., None], parts)[..., 0].tolist() == [[[1.5, 3, 4]], [[7, 9, 0]]]


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, words",
    [
        ({"heads": "max"}, "heads must be one of mean, adapter, cosine, got 'max'"),
        ({"tokens": "index"}, "tokens must be one of pooled, words, got 'index'"),
        ({"i2t": -1.0, "tokens": "words"}, "i2t must be at least 0, got -1"),
        ({"i2t": 1.0}, "i2t=1: .* set tokens=words"),
    ],
)
def test_init__mistakes(given: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AttentionKL(**given)


@pytest.mark.parametrize(
    "given, mine, words",
    [
        ({}, {"attention": (12,)}, r"student tap 'attention' has shape \(12,\) .* \(heads, h, w\)"),
        ({"tokens": "words"}, {"attention": (2, 4, 4)}, r"with tokens=words attention .* is \(heads, L, h, w\)"),
        (WORDS, {"attention_tokens": (2, 5, 4, 4), "words": (5, 1)}, r"student tap 'words' .* must be \(L,\)"),
        (
            {**WORDS, "i2t": 1.0},
            {"attention_tokens": (2, 5, 4, 4), "words": (5,), "attention_i2t": (3, 4, 4, 5)},
            "must have the 2 and 2 heads",
        ),
        (WORDS, {"attention_tokens": (2, 5, 4, 4)}, "the student gives no 'words'"),
    ],
)
def test_prepare__taps_that_are_no_attention(given: dict, mine: dict, words: str) -> None:
    other = {
        "attention": (2, 4, 4), "attention_tokens": (2, 5, 4, 4), "words": (5,), "attention_i2t": (2, 4, 4, 5),
    }  # fmt: skip
    with pytest.raises(ValueError, match=words):
        AttentionKL(**given).prepare(*({k: Spec(v) for k, v in side.items()} for side in (mine, other)))
