"""Losses between the images and texts of a batch against loops over samples; both forms of student; two processes."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.nn.functional import cross_entropy, normalize

from distill.losses.affinity import Affinity, affinity
from distill.losses.base import Loss
from distill.losses.clip_gradient import CLIPGradient, clip_gradient
from distill.losses.clip_relation import CLIPRelation, clip_relation
from distill.losses.condensed import Condensed, condensed
from distill.losses.icl import ICL, icl
from distill.losses.image_text import Embedded
from distill.losses.image_text_cosine import ImageTextCosine, image_text_cosine
from distill.outputs import Anchors, Batch, Outputs, Spec, TrainingSet

SCALE = 5.0
SAME = [[0], [0, 1], [0, 1, 0, 2, 1]]
"""Which text each sample of a batch has."""


def unit(vectors: Tensor) -> list[Tensor]:
    return [v / torch.sqrt(v @ v) for v in vectors]


def products(queries: list[Tensor], keys: list[Tensor], scale: float) -> list[list[Tensor]]:
    return [[scale * (q @ k) for k in keys] for q in queries]


def softmax(row: list[Tensor]) -> list[Tensor]:
    powers = [torch.exp(v) for v in row]
    return [p / sum(powers) for p in powers]


def entropy(target: list[list[Tensor]], logits: list[list[Tensor]]) -> Tensor:
    """Cross-entropy with soft targets, averaged over rows."""
    found = zip(target, (softmax(row) for row in logits), strict=True)
    return -sum(q * torch.log(p) for t, s in found for q, p in zip(t, s, strict=True)) / len(target)


def turned(rows: list[list[Tensor]]) -> list[list[Tensor]]:
    return [list(column) for column in zip(*rows, strict=True)]


def right(ids: Sequence[int]) -> list[list[Tensor]]:
    return [[torch.tensor(float(a == b)).double() / ids.count(a) for b in ids] for a in ids]  # type: ignore[attr-defined]


def icl_oracle(s: list[Tensor], ts: list[Tensor], v: list[Tensor], t: list[Tensor], ids: Sequence[int]) -> Tensor:
    first = products(s, t, SCALE)
    second = turned(first) if ts is t else products(ts, v, SCALE)
    return (entropy(right(ids), first) + entropy(right(ids), second)) / 2


def affinity_oracle(s: list[Tensor], ts: list[Tensor], v: list[Tensor], t: list[Tensor], _: Sequence[int]) -> Tensor:
    mine, other = products(s, ts, SCALE), products(v, t, SCALE)
    told, back = [softmax(row) for row in other], [softmax(row) for row in turned(other)]
    return (entropy(told, mine) + entropy(back, turned(mine))) / 2


def relation_oracle(s: list[Tensor], ts: list[Tensor], v: list[Tensor], t: list[Tensor], ids: Sequence[int]) -> Tensor:
    return affinity_oracle(s, ts, v, t, ids) - affinity_oracle(v, t, v, t, ids)


def gradient_oracle(s: list[Tensor], ts: list[Tensor], v: list[Tensor], t: list[Tensor], ids: Sequence[int]) -> Tensor:
    """The gradients by autograd, of the contrastive loss of images and of that of texts."""
    target = torch.tensor(right(ids)).double()
    total = torch.zeros((), dtype=torch.float64)
    for (a, b), (c, d) in (((s, ts), (v, t)), ((ts, s), (t, v))):
        found = []
        for queries, keys in ((a, b), (c, d)):
            q, k = torch.stack(queries), torch.stack(keys)
            q, k = (x if x.requires_grad else x.clone().requires_grad_() for x in (q, k))
            loss = cross_entropy(SCALE * q @ k.T, target)
            found.append(torch.autograd.grad(loss, (q, k), create_graph=True))
        total = total + sum((m - o).square().mean() for m, o in zip(*found, strict=True))
    return total


def cosine_oracle(s: list[Tensor], ts: list[Tensor], v: list[Tensor], t: list[Tensor], _: Sequence[int]) -> Tensor:
    terms = zip(s, v, t, strict=True)
    return sum(0.3 * (1 - a @ b) + 0.7 * (1 - a @ c) for a, b, c in terms) / len(s)


PURE: dict[str, tuple[Callable[[Embedded, bool], Tensor], Callable[..., Tensor]]] = {
    "icl": (lambda e, own: icl(e, torch.tensor(SCALE), own), icl_oracle),
    "affinity": (lambda e, _: affinity(e, SCALE), affinity_oracle),
    "clip_relation": (lambda e, _: clip_relation(e, SCALE), relation_oracle),
    "clip_gradient": (lambda e, _: clip_gradient(e, SCALE), gradient_oracle),
    "image_text_cosine": (lambda e, _: image_text_cosine(e, 0.3), cosine_oracle),
}


def vectors(ids: Sequence[int], width: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return images and texts of student and teacher, the student's with gradients, and which texts are the same."""
    image_s, text_s, image_t, text_t = torch.randn(4, len(ids), width)
    number = torch.tensor(ids)
    return image_s.requires_grad_(), text_s.requires_grad_(), image_t, text_t, number[:, None] == number


@pytest.mark.parametrize("own", [True, False], ids=["two towers", "images only"])
@pytest.mark.parametrize("ids", SAME, ids=len)
@pytest.mark.parametrize("name", PURE)
def test_loss__value_and_gradient(name: str, ids: list[int], own: bool) -> None:
    value_of, oracle = PURE[name]
    image_s, text_s, image_t, text_t, same = vectors(ids)
    exact = image_s.detach().double().requires_grad_()
    texts = unit(text_t.double())
    expected = oracle(
        unit(exact), unit(text_s.detach().double()) if own else texts, unit(image_t.double()), texts, list(ids)
    )
    student_text = normalize(text_s.detach() if own else text_t, dim=1)
    value = value_of(
        Embedded(normalize(image_s, dim=1), student_text, normalize(image_t, dim=1), normalize(text_t, dim=1), same),
        own,
    )
    value.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    if expected.requires_grad:
        expected.backward()
    assert image_s.grad is not None
    wanted = torch.zeros_like(exact) if exact.grad is None else exact.grad
    torch.testing.assert_close(image_s.grad.double(), wanted, rtol=1e-3, atol=1e-5)


def test_icl__is_the_paper_s_where_all_texts_differ() -> None:
    image_s, text_s, image_t, text_t, same = vectors([0, 1, 2, 3])
    e = Embedded(*(normalize(x.detach(), dim=1) for x in (image_s, text_s, image_t, text_t)), same)
    labels = torch.arange(4)
    first, second = 5 * e.image_s @ e.text_t.T, 5 * e.text_s @ e.image_t.T
    torch.testing.assert_close(
        icl(e, torch.tensor(5.0)), (cross_entropy(first, labels) + cross_entropy(second, labels)) / 2
    )


def test_affinity__of_texts_is_a_distribution() -> None:
    """The softmax of transposed scores: were it transposed afterwards, its rows would not sum to 1."""
    image_s, text_s, image_t, text_t, same = vectors([0, 1, 2, 3, 4])
    e = Embedded(*(normalize(x.detach(), dim=1) for x in (image_s, text_s, image_t, text_t)), same)
    turned_round = Embedded(e.text_s, e.image_s, e.text_t, e.image_t, same)
    torch.testing.assert_close(affinity(e, SCALE), affinity(turned_round, SCALE))
    wrong = (SCALE * e.image_t @ e.text_t.T).softmax(1).T
    assert (wrong.sum(1) - 1).abs().max() > 0.1


@pytest.mark.parametrize("name", ["clip_relation", "clip_gradient"])
def test_loss__zero_at_the_teacher(name: str) -> None:
    _, _, image_t, text_t, same = vectors([0, 1, 0, 2])
    v, t = normalize(image_t, dim=1), normalize(text_t, dim=1)
    assert PURE[name][0](Embedded(v, t, v, t, same), True).item() == pytest.approx(0, abs=1e-6)


def test_clip_relation__is_affinity_less_the_entropy_of_the_teacher() -> None:
    image_s, text_s, image_t, text_t, same = vectors([0, 1, 2, 3])
    s, ts, v, t = (normalize(x.detach(), dim=1) for x in (image_s, text_s, image_t, text_t))
    constant = affinity(Embedded(v, t, v, t, same), 3.0)
    e = Embedded(s, ts, v, t, same)
    torch.testing.assert_close(clip_relation(e, 3.0), affinity(e, 3.0) - constant)


def test_clip_gradient__dividing_by_a_scale_of_100_makes_it_1e8_times_smaller() -> None:
    """As near as the softmax of small logits allows: why the published weight is 1e8."""
    image_s, text_s, image_t, text_t, same = vectors([0, 1, 2, 3], 64)
    near = [normalize(x.detach(), dim=1) for x in (image_s, text_s, image_t, text_t)]
    ratio = clip_gradient(Embedded(*near, same), 100.0) / clip_gradient(Embedded(*near, same), 0.01)
    assert 1e7 < ratio < 1e9


def said(**features: Tensor) -> Outputs:
    return Outputs(torch.zeros(len(next(iter(features.values()))), 3), features)


def batch(ids: Sequence[int], captions: bool = True) -> Batch:
    number = torch.tensor(ids)
    return Batch(torch.zeros(len(ids), 3, 4, 4), number, number, number, text=7 * number if captions else None)


def met(loss: Loss, text: Tensor, scale: float = SCALE) -> Loss:
    width = {name: Spec((4,)) for name in ("image_embedding", "text_embedding")}
    loss.prepare(width, width)
    loss.meet(TrainingSet(torch.arange(3), len(text), {"clip": Anchors(text, scale)}))
    return loss


@pytest.mark.parametrize("make", [ICL, Affinity, CLIPRelation, CLIPGradient, ImageTextCosine])
def test_forward__classes_are_captions_that_say_the_class(make: Callable[..., Loss]) -> None:
    text = normalize(torch.randn(3, 4), dim=1)
    ids = [0, 1, 0, 2]
    mine, other = torch.randn(2, 4, 4)
    classes, captions = met(make(texts="classes"), text), met(make(texts="captions"), text)
    assert classes.teacher_taps() == ("image_embedding",)
    assert captions.teacher_taps() == ("image_embedding", "text_embedding")
    one = classes(said(image_embedding=mine), said(image_embedding=other), batch(ids, captions=False))
    read = said(image_embedding=other, text_embedding=3 * text[torch.tensor(ids)])
    two = captions(said(image_embedding=mine), read, batch(ids))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("make", [Affinity, CLIPRelation, CLIPGradient])
def test_forward__the_scale_is_the_teachers_where_none_is_given(make: Callable[..., Loss]) -> None:
    text = normalize(torch.randn(3, 4), dim=1)
    outputs = said(image_embedding=torch.randn(4, 4)), said(image_embedding=torch.randn(4, 4)), batch([0, 1, 0, 2])
    own, given = (met(make(texts="classes", scale=scale), text, scale=7.0) for scale in (None, 7.0))
    assert torch.equal(own(*outputs), given(*outputs))


def test_forward__strict_reference_has_one_right_text_and_the_published_scale() -> None:
    text, ids = normalize(torch.randn(3, 4), dim=1), [0, 1, 0]
    mine, other = (normalize(x, dim=1) for x in torch.randn(2, 3, 4))
    outputs = said(image_embedding=mine), said(image_embedding=other), batch(ids)
    value = met(ICL(texts="classes", strict_reference=True), text)(*outputs)
    logits, labels = math.log(1 / 0.07) * mine @ text[torch.tensor(ids)].T, torch.arange(3)
    torch.testing.assert_close(value, (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2)
    value = met(CLIPGradient(texts="classes", strict_reference=True), text)(*outputs)
    told = text[torch.tensor(ids)]
    torch.testing.assert_close(value, clip_gradient(Embedded(mine, told, other, told, torch.eye(3) > 0), 1 / SCALE))


def test_forward__captions_that_are_not_there() -> None:
    loss = met(ICL(), torch.eye(4)[:3])
    with pytest.raises(ValueError, match="the dataset has none; choose one with captions, or set texts=classes"):
        loss(said(image_embedding=torch.randn(2, 4)), said(image_embedding=torch.randn(2, 4)), batch([0, 1], False))


@pytest.mark.parametrize(
    "make, settings, message",
    [
        (ICL, {"texts": "words"}, "texts must be one of captions, classes, got 'words'"),
        (ICL, {"texts": "classes", "student_text_tap": "t"}, "embeds captions; set texts=captions, or leave it out"),
        (ICL, {"tau": 0.0}, "tau must be above 0"),
        (Affinity, {"scale": -1.0}, "scale must be above 0"),
        (CLIPRelation, {"scale": 0.0}, "scale must be above 0"),
        (CLIPGradient, {"scale": 0.0}, "scale must be above 0"),
        (ImageTextCosine, {"lam": 1.5}, r"lam must be in \[0, 1\], got 1.5"),
        (Condensed, {"tau": 0.0}, "tau must be above 0"),
        (Condensed, {"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_init__refuses(make: Callable[..., Loss], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize("samples, mine, other, classes", [(1, 2, 3, 2), (4, 5, 3, 6)])
def test_condensed__value_and_gradient(samples: int, mine: int, other: int, classes: int) -> None:
    student = torch.randn(samples, mine, requires_grad=True)
    z_v, z_t, v, t = (
        torch.randn(n, d) for n, d in ((samples, mine), (classes, mine), (samples, other), (classes, other))
    )
    exact = student.detach().double().requires_grad_()
    h, a, b, c, d = (unit(x) for x in (exact, *(x.double() for x in (z_v, z_t, v, t))))
    distance = sum((x - y).abs().mean() for x, y in zip(h, a, strict=True)) / samples
    told, asked = ([softmax(row) for row in products(*p, 7.0 / 2)] for p in ((c, d), (h, b)))
    kl = sum(q * torch.log(q / p) for x, y in zip(told, asked, strict=True) for q, p in zip(x, y, strict=True))
    expected = (distance + 4 * kl / samples / 2) / 2
    value = condensed(*(normalize(x, dim=1) for x in (student, z_v, z_t, v, t)), scale=7.0, temperature=2.0)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)
    assert student.grad is not None
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-3, atol=1e-5)


def test_condensed__in_the_frozen_space_is_zero_at_the_teacher_and_strict_moves_the_target() -> None:
    text, other = normalize(torch.randn(3, 4), dim=1), torch.randn(2, 4)
    outputs = said(pooled=other), said(image_embedding=other), batch([0, 1])
    specs = {"pooled": Spec((4,)), "image_embedding": Spec((4,))}
    frozen, strict = Condensed(head="identity"), Condensed(strict_reference=True)
    for loss in (frozen, strict):
        loss.prepare(specs, specs)
        loss.meet(TrainingSet(torch.arange(3), 3, {"clip": Anchors(text, SCALE)}))
    assert frozen(*outputs).item() == pytest.approx(0, abs=1e-6)
    assert not list(frozen.parameters())
    strict(*outputs).backward()
    assert all(p.grad is not None for p in strict.parameters())


def test_condensed__a_tap_outside_the_space_of_the_texts() -> None:
    loss = Condensed()
    loss.prepare({"pooled": Spec((5,))}, {"image_embedding": Spec((6,))})
    with pytest.raises(ValueError, match="has length 6 and the teacher's text vectors 4; take image_embedding"):
        loss.meet(TrainingSet(torch.arange(3), 3, {"clip": Anchors(torch.eye(4)[:3], SCALE)}))


GATHERED = {
    "icl": lambda gather: ICL(gather=gather), "affinity": lambda gather: Affinity(gather=gather),
    "clip_relation": lambda gather: CLIPRelation(gather=gather, scale=SCALE),
    "clip_gradient": lambda gather: CLIPGradient(gather=gather, scale=SCALE),
}  # fmt: skip


def compared(name: str, part: slice, gather: bool = True) -> tuple[Tensor, Tensor]:
    """Return the value, and the gradient at the student's vectors, of the part of a batch that a process has."""
    random = torch.Generator().manual_seed(0)
    mine, other, text = torch.randn(3, 6, 4, generator=random)
    own = mine[part].clone().requires_grad_()
    value = GATHERED[name](gather)(
        said(image_embedding=own),
        said(image_embedding=other[part], text_embedding=text[part]),
        batch([0, 1, 2, 3, 4, 5]).take(torch.arange(6)[part]),
    )
    value.backward()
    assert own.grad is not None
    return value.detach(), own.grad


def test_loss__two_processes_are_as_one(tmp_path: Path) -> None:
    def child(rank: int) -> None:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=rank, world_size=2)
        part = slice(3 * rank, 3 * rank + 3)
        found = {f"{name} {gather}": compared(name, part, gather) for name in GATHERED for gather in (True, False)}
        torch.save(found, tmp_path / f"{rank}.pt")
        distributed.destroy_process_group()
        os._exit(0)

    processes = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in GATHERED:
        value, gradient = compared(name, slice(0, 6))
        for rank, found in enumerate((first, second)):
            torch.testing.assert_close(found[f"{name} True"][0], value)
            mine = gradient[3 * rank : 3 * rank + 3]
            torch.testing.assert_close(found[f"{name} True"][1] / 2, mine)  # DDP takes the mean over processes
        local = (first[f"{name} False"][0] + second[f"{name} False"][0]) / 2
        assert (local - value).abs() > 1e-3 * value.abs()  # so the test above could fail
