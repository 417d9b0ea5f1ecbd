"""ND against loops over samples, and its class means against those of everything seen."""

from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing

from distill.losses.nd import ND, nd
from distill.outputs import Batch, Outputs, Spec


@pytest.mark.parametrize("shape", [(1, 3), (6, 5), (4, 12)])
def test_nd__value_and_gradient(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    student, teacher, centers = torch.randn(shape, requires_grad=True), torch.randn(shape), 3 * torch.randn(shape)
    exact = student.detach().double().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for s, t, c in zip(exact, teacher.double(), centers.double(), strict=True):
        longer = max(torch.sqrt((s * s).sum()), torch.sqrt((t * t).sum()))
        total = total + 1 - (s * c).sum() / torch.sqrt((c * c).sum()) / longer
    expected = total / shape[0]
    value = nd(student, teacher, centers)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(student.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_nd__by_hand() -> None:
    # half the teacher's norm and the right direction; four times the norm and the right; the opposite direction
    teacher = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    student = torch.tensor([[1.0, 0.0], [4.0, 0.0], [-1.0, 0.0]])
    values = [nd(student[i : i + 1], teacher[i : i + 1], teacher[i : i + 1]).item() for i in range(3)]
    assert values == pytest.approx([0.5, 0.0, 2.0])


def test_nd__ignores_the_length_of_the_centers_and_a_common_scale_and_rotation() -> None:
    torch.manual_seed(0)
    student, teacher, centers = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    value = nd(student, teacher, centers)
    torch.testing.assert_close(nd(student, teacher, 7 * centers), value)
    torch.testing.assert_close(nd(3 * student, 3 * teacher, centers), value)
    torch.testing.assert_close(nd(student @ rotation, teacher @ rotation, centers @ rotation), value)


def batch(target: torch.Tensor) -> Batch:
    zero = torch.zeros_like(target)
    return Batch(torch.zeros(len(target), 3, 4, 4), target, zero, zero)


def test_forward__class_means_are_those_of_all_that_was_seen() -> None:
    torch.manual_seed(0)
    loss = ND("a", "b")
    loss.prepare({"logits": Spec((4,)), "a": Spec((3,))}, {"b": Spec((3,))})
    features, targets = torch.randn(5, 8, 3) + 2, torch.randint(3, (5, 8))  # nothing of class 3
    for feature, target in zip(features, targets, strict=True):
        logits = torch.zeros(8, 4)
        value = loss(Outputs(logits, {"a": feature.neg()}), Outputs(logits, {"b": feature}), batch(target))
    for c in range(3):
        torch.testing.assert_close(loss.means[c], features.flatten(0, 1)[targets.flatten() == c].mean(0))
    assert torch.equal(loss.counts, targets.flatten().bincount(minlength=4).float())
    torch.testing.assert_close(value, nd(features[-1].neg(), features[-1], loss.means[targets[-1]]))


def test_forward__evaluation_leaves_the_means() -> None:
    loss = ND("a", "b").eval()
    loss.prepare({"logits": Spec((4,)), "a": Spec((3,))}, {"b": Spec((3,))})
    logits = torch.zeros(2, 4)
    outputs = Outputs(logits, {"a": torch.ones(2, 3)}), Outputs(logits, {"b": torch.ones(2, 3)})
    assert loss(*outputs, batch(torch.tensor([0, 1]))) == 1
    assert not loss.counts.any()


def test_prepare__teacher_that_gives_no_vector() -> None:
    with pytest.raises(ValueError, match="choose one such as pooled"):
        ND("a", "b").prepare({"logits": Spec((4,)), "a": Spec((3,))}, {"b": Spec((3, 4, 4))})


def values(features: torch.Tensor, targets: torch.Tensor) -> list[float]:
    """Return the value of each batch, ``features`` being ``(batches, student and teacher, N, D)``."""
    loss = ND("a", "b")
    loss.prepare({"logits": Spec((3,)), "a": Spec((5,))}, {"b": Spec((5,))})
    found = []
    for (student, teacher), target in zip(features, targets, strict=True):
        logits = torch.zeros(len(target), 3)
        found.append(loss(Outputs(logits, {"a": student}), Outputs(logits, {"b": teacher}), batch(target)).item())
    return found


def half(rank: int, folder: str, features: torch.Tensor, targets: torch.Tensor) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(values(features[:, :, rank::2], targets[:, rank::2]), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_forward__two_processes_share_the_class_means(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features, targets = torch.randn(3, 2, 8, 5), torch.randint(3, (3, 8))
    arguments = (str(tmp_path), features, targets)
    torch.multiprocessing.start_processes(half, arguments, nprocs=2, start_method="fork")
    halves = [torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2)]
    whole = values(features, targets)
    assert [(a + b) / 2 for a, b in zip(*halves, strict=True)] == pytest.approx(whole, rel=1e-6)
    assert halves[0] != halves[1]
