"""Map losses against loops over samples, classes and places; grids; relevance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from distill.losses.dense_cosine import DenseCosine, dense_cosine
from distill.losses.map_semantic import MapSemantic, foreground, map_semantic
from distill.losses.map_spatial import MapSpatial, attention, map_spatial
from distill.losses.maps import Relevance, joint_size, relevance, resample, scores
from distill.outputs import Anchors, Batch, Mix, Outputs, Spec, TrainingSet

Cells = list[list[list[Tensor]]]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (torch.sqrt(a @ a) * torch.sqrt(b @ b))


def cells(maps: Tensor, text: Tensor) -> Cells:
    """Return the score of each sample, class and place."""
    places = [[maps[b, :, i, j] for i in range(maps.shape[2]) for j in range(maps.shape[3])] for b in range(len(maps))]
    return [[[cosine(p, c) for p in sample] for c in text] for sample in places]


def softmax(values: list[Tensor]) -> list[Tensor]:
    powers = [torch.exp(v) for v in values]
    return [p / sum(powers) for p in powers]


def kl(t: list[Tensor], s: list[Tensor]) -> Tensor:
    return sum(a * torch.log(a / b) for a, b in zip(t, s, strict=True))


def spatial_oracle(student: Tensor, teacher: Tensor, text: Tensor, w: Tensor, tau: float, centred: bool) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for b, (mine, other) in enumerate(zip(cells(student, text), cells(teacher, text), strict=True)):
        for k in range(len(text)):
            both = []
            for scored in (other, mine):
                mean = [sum(row[n] for row in scored) / len(scored) for n in range(len(scored[0]))]
                both.append(softmax([(v - (m if centred else 0)) / tau for v, m in zip(scored[k], mean, strict=True)]))
            total = total + w[b, k] * kl(*both)
    return total / len(student)


def semantic_oracle(student: Tensor, teacher: Tensor, text: Tensor, scale: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for mine, other in zip(cells(student, text), cells(teacher, text), strict=True):
        count = len(mine[0])
        for n in range(count):
            t, s = (softmax([scale * row[n] for row in scored]) for scored in (other, mine))
            total = total + kl(t, s) / count
    return total / len(student)


def example(samples: int, width: int, classes: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    student = torch.randn(samples, width, *size, requires_grad=True)
    return student, torch.randn(samples, width, *size), normalize(torch.randn(classes, width), dim=1)


def same(value: Tensor, expected: Tensor, student: Tensor, exact: Tensor, scale: float = 1.0) -> None:
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
    assert student.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("samples, width, classes, size, tau", [(1, 3, 2, (1, 2), 1.0), (3, 5, 4, (2, 3), 0.07)])
def test_map_spatial__value_and_gradient(
    samples: int, width: int, classes: int, size: tuple[int, int], tau: float, centred: bool
) -> None:
    student, teacher, text = example(samples, width, classes, size)
    exact = student.detach().double().requires_grad_()
    w = torch.rand(samples, classes).softmax(1)
    value = map_spatial(normalize(student, dim=1), normalize(teacher, dim=1), text, Relevance(w, None), tau, centred)
    same(value, spatial_oracle(exact, teacher.double(), text.double(), w.double(), tau, centred), student, exact, 10)


@pytest.mark.parametrize("samples, width, classes, size, scale", [(1, 3, 2, (1, 2), 1.0), (3, 5, 4, (2, 3), 20.0)])
def test_map_semantic__value_and_gradient(
    samples: int, width: int, classes: int, size: tuple[int, int], scale: float
) -> None:
    student, teacher, text = example(samples, width, classes, size)
    exact = student.detach().double().requires_grad_()
    value = map_semantic(normalize(student, dim=1), normalize(teacher, dim=1), text, scale)
    same(value, semantic_oracle(exact, teacher.double(), text.double(), scale), student, exact, scale)


def test_dense_cosine__value_and_gradient() -> None:
    student, teacher, _ = example(3, 5, 2, (2, 3))
    exact = student.detach().double().requires_grad_()
    places = [(b, i, j) for b in range(3) for i in range(2) for j in range(3)]
    expected = sum(1 - cosine(exact[b, :, i, j], teacher[b, :, i, j].double()) for b, i, j in places) / len(places)
    same(dense_cosine(normalize(student, dim=1), normalize(teacher, dim=1)), expected, student, exact)


def test_losses__zero_where_the_student_is_the_teacher() -> None:
    _, teacher, text = example(3, 5, 4, (2, 3))
    maps, w = normalize(teacher, dim=1), torch.full((3, 4), 0.25)
    assert map_spatial(maps, maps, text, Relevance(w, None), 0.07).item() == pytest.approx(0, abs=1e-7)
    assert map_semantic(maps, maps, text, 20.0).item() == pytest.approx(0, abs=1e-7)
    assert dense_cosine(maps, maps).item() == pytest.approx(0, abs=1e-6)


def test_attention__moves_with_the_places_and_sums_to_one_after_resampling() -> None:
    _, teacher, text = example(2, 5, 4, (4, 4))
    maps = normalize(teacher, dim=1)
    order = torch.randperm(16)
    moved = maps.flatten(2)[:, :, order].unflatten(2, (4, 4))
    torch.testing.assert_close(attention(moved, text, 0.07, True), attention(maps, text, 0.07, True)[:, :, order])
    for size in ((2, 2), (3, 5), (8, 8), (2, 8)):
        total = attention(resample(maps, size), text, 0.07, True).exp().sum(2)
        torch.testing.assert_close(total, torch.ones(2, 4))


def test_map_spatial__of_a_uniform_teacher_is_log_n_less_the_cross_term() -> None:
    """KL(u || A) = -log N - mean log A, which is log N less the entropy of A only where A is uniform too."""
    student, _, text = example(2, 5, 4, (2, 3))
    mine = normalize(student, dim=1)
    flat = normalize(torch.ones(2, 5, 2, 3), dim=1)
    w = torch.full((2, 4), 0.25)
    log_a = attention(mine, text, 0.1, True)
    expected = (-math.log(6) - log_a.mean(2)).mean()
    torch.testing.assert_close(map_spatial(mine, flat, text, Relevance(w, None), 0.1), expected)
    assert map_spatial(flat, flat, text, Relevance(w, None), 0.1).item() == pytest.approx(0, abs=1e-7)


def test_scores__centring_is_taking_the_mean_text_out_and_changes_no_semantic_map() -> None:
    _, teacher, text = example(2, 5, 4, (2, 3))
    maps, plain = normalize(teacher, dim=1), scores(normalize(teacher, dim=1), text, centred=False)
    torch.testing.assert_close(scores(maps, text), plain - plain.mean(1, keepdim=True))
    torch.testing.assert_close((9 * scores(maps, text)).softmax(1), (9 * plain).softmax(1))


def test_foreground__is_the_largest_attention_normalised() -> None:
    _, teacher, text = example(2, 5, 4, (2, 3))
    maps = normalize(teacher, dim=1)
    most = attention(maps, text, 0.1, True).exp().max(1).values
    torch.testing.assert_close(foreground(maps, text, 0.1), most / most.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "student, teacher, grid, expected",
    [
        ((8, 8), (7, 7), "coarse", (7, 7)), ((4, 4), (7, 7), "coarse", (4, 4)), ((4, 9), (7, 7), "coarse", (4, 7)),
        ((4, 4), (7, 7), "teacher", (7, 7)), ((4, 4), (7, 7), "student", (4, 4)),
    ],
)  # fmt: skip
def test_joint_size__by_policy(student: tuple, teacher: tuple, grid: str, expected: tuple) -> None:
    assert joint_size(student, teacher, grid) == expected


def test_resample__averages_blocks_of_unit_vectors_and_has_length_one() -> None:
    maps = torch.randn(2, 3, 4, 4)
    found = resample(maps, (2, 2))
    one = normalize(maps, dim=1)[:, :, :2, :2].mean((2, 3))
    torch.testing.assert_close(found[:, :, 0, 0], normalize(one, dim=1))
    for size in ((2, 2), (8, 8), (2, 8), (4, 4)):
        torch.testing.assert_close(resample(maps, size).norm(dim=1), torch.ones(2, *size))
    torch.testing.assert_close(resample(100 * maps, (3, 3)), resample(maps, (3, 3)))  # before averaging too


def test_relevance__by_kind() -> None:
    logits, target = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]), torch.tensor([1, 2])
    p = logits.softmax(1)
    assert torch.equal(relevance("teacher", logits, target, None, 2).weight, p)
    top = relevance("top_k", logits, target, None, 2)
    assert top.classes is not None
    assert top.classes[0].tolist() == [0, 1]
    torch.testing.assert_close(top.weight[0], p[0, :2] / p[0, :2].sum())
    assert relevance("label", logits, target, None, 2)[1].tolist() == [[1], [2]]  # type: ignore[union-attr]
    mixed = relevance("label", logits, target, Mix(torch.tensor([0, 1]), torch.tensor([0.75, 1.0])), 2)
    assert mixed.classes is not None
    assert mixed.classes.tolist() == [[1, 0], [2, 1]]
    assert mixed.weight.tolist() == [[0.75, 0.25], [1.0, 0.0]]
    torch.testing.assert_close(relevance("uniform", logits, target, None, 2).weight, torch.full((2, 3), 1 / 3))


def test_map_spatial__of_chosen_classes_is_that_of_all_with_the_others_at_zero() -> None:
    student, teacher, text = example(2, 5, 4, (2, 3))
    maps = normalize(student, dim=1), normalize(teacher, dim=1)
    some = Relevance(torch.tensor([[0.75, 0.25], [1.0, 0.0]]), torch.tensor([[3, 0], [2, 1]]))
    every = Relevance(torch.tensor([[0.25, 0, 0, 0.75], [0, 0, 1.0, 0]]), None)
    torch.testing.assert_close(map_spatial(*maps, text, some, 0.07), map_spatial(*maps, text, every, 0.07))


def ready(loss: MapSpatial | MapSemantic, mine: Spec, other: Spec, text: Tensor) -> None:
    loss.prepare({"dense": mine}, {"dense_value": other})
    loss.meet(TrainingSet(torch.arange(4), len(text), {"clip": Anchors(text, 20.0)}))


def test_forward__tokens_of_a_grid_are_a_map() -> None:
    text = normalize(torch.randn(3, 5), dim=1)
    maps, tokens = torch.randn(2, 5, 2, 3), torch.randn(2, 7, 5)
    loss = MapSemantic(grid="student")
    ready(loss, Spec((5, 2, 3)), Spec((7, 5), (2, 3)), text)
    zero = torch.zeros(2, dtype=torch.int64)
    value = loss(
        Outputs(torch.zeros(2, 3), {"dense": maps}),
        Outputs(torch.zeros(2, 3), {"dense_value": tokens}),
        Batch(torch.zeros(2, 3, 4, 4), zero, zero, zero),
    )
    grid = tokens[:, 1:].transpose(1, 2).reshape(2, 5, 2, 3)  # without the class token
    torch.testing.assert_close(value, map_semantic(normalize(maps, dim=1), normalize(grid, dim=1), text, 20.0))


@pytest.mark.parametrize("shape", [(5,), (5, 1, 1), (7,)])
@pytest.mark.parametrize("make", [MapSpatial, MapSemantic, DenseCosine])
def test_prepare__no_spatial_extent(make: type, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"student tap 'dense' of shape .* has no spatial extent"):
        make().prepare({"dense": Spec(shape)}, {"dense_value": Spec((5, 4, 4))})
    with pytest.raises(ValueError, match=r"teacher tap 'dense_value' of shape .* has no spatial extent"):
        make().prepare({"dense": Spec((5, 4, 4))}, {"dense_value": Spec(shape)})


def test_prepare__another_width() -> None:
    with pytest.raises(ValueError, match=r"\(6, 4, 4\).*\(5, 2, 2\).*student\.width=5, not 6"):
        MapSpatial().prepare({"dense": Spec((6, 4, 4))}, {"dense_value": Spec((5, 2, 2))})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"grid": "fine"}, "grid must be one of coarse, teacher, student, got 'fine'"),
        ({"relevance": "box"}, "relevance must be one of teacher, label, top_k, uniform, got 'box'"),
        ({"top_k": 0}, "top_k must be at least 1, got 0"),
        ({"tau": 0.0}, "tau must be above 0"),
    ],
)
def test_init__refuses(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MapSpatial(**settings)
