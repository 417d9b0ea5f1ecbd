"""Several image-text teachers at once: loops in float64, the form of published code, two processes, wrong input."""

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed
from torch.nn.functional import cross_entropy

from distill.losses.clip_ensemble import CLIPEnsemble, clip_ensemble
from distill.outputs import Anchors, Batch, Outputs, Spec, TrainingSet

TEACHERS = {"a": (3, 4.0), "b": (7, 30.0)}
"""Length of the vectors and s."""


def samples(n: int, d: int = 5) -> tuple[Outputs, Outputs, Batch]:
    """Return a student with vectors of length d, and the two teachers joined."""
    random = torch.Generator().manual_seed(n)
    mine = {k: torch.randn(n, d, generator=random).requires_grad_() for k in ("image_embedding", "text_embedding")}
    scale = torch.full((n,), 9.0, requires_grad=True)
    told = {
        f"{name}/{k}": torch.randn(n, width, generator=random)
        for name, (width, _) in TEACHERS.items()
        for k in ("image_embedding", "text_embedding")
    }
    number = torch.arange(n)
    batch = Batch(torch.zeros(n, 3, 4, 4, dtype=torch.uint8), 0 * number, number, 0 * number, text=number)
    return Outputs(torch.zeros(n, 2), {**mine, "scale": scale}), Outputs(torch.zeros(n, 2), told), batch


def loss_of(teachers: dict[str, tuple[int, float]] = TEACHERS, **settings: float) -> CLIPEnsemble:
    loss = CLIPEnsemble(list(teachers), **settings)
    loss.meet(
        TrainingSet(
            torch.zeros(4, dtype=torch.long), 2, {k: Anchors(torch.eye(2, d), s) for k, (d, s) in teachers.items()}
        )
    )
    return loss


def unit(x: Tensor) -> Tensor:
    x = x.detach().double()
    return x / x.square().sum(1, keepdim=True).sqrt()


def oracle(student: Outputs, teacher: Outputs, scales: dict[str, float]) -> float:
    """Return the mean over teachers, directions and samples of sum_j p_j (log p_j - log q_j)."""
    both = unit(student.features["image_embedding"]), unit(student.features["text_embedding"])
    total, n = 0.0, len(both[0])
    for name, s in scales.items():
        told = unit(teacher.features[f"{name}/image_embedding"]), unit(teacher.features[f"{name}/text_embedding"])
        for way in (0, 1):
            for i in range(n):
                p, q = ([(k * float(x[way][i] @ x[1 - way][j])) for j in range(n)] for k, x in ((s, told), (9.0, both)))
                a, b = (torch.tensor(row, dtype=torch.float64) for row in (p, q))
                p_i, q_i = a.exp() / a.exp().sum(), b.exp() / b.exp().sum()
                total += float((p_i * (p_i / q_i).log()).sum()) / (2 * n * len(scales))
    return total


@pytest.mark.parametrize("n", [1, 2, 6])
def test_clip_ensemble__is_the_paper_s_mean_of_divergences(n: int) -> None:
    student, teacher, batch = samples(n)
    value = loss_of()(student, teacher, batch).detach()
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(oracle(student, teacher, {"a": 4.0, "b": 30.0}), rel=1e-4, abs=1e-6)
    told = loss_of(scale=100.0)(student, teacher, batch).detach()
    assert float(told) == pytest.approx(oracle(student, teacher, {"a": 100.0, "b": 100.0}), rel=1e-4, abs=1e-6)


def test_clip_ensemble__has_the_gradient_of_the_mean_after_the_softmax_and_not_before() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 5, generator=random) * 4
    scores = torch.randn(5, 5, generator=random).requires_grad_()

    def gradient(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, scores)[0]

    rows, columns = (first.softmax(1) + second.softmax(1)) / 2, (first.T.softmax(1) + second.T.softmax(1)) / 2
    published = (cross_entropy(scores, rows) + cross_entropy(scores.T, columns)) / 2
    found = gradient(clip_ensemble(scores, [first, second]))
    torch.testing.assert_close(found, gradient(published), rtol=1e-4, atol=1e-6)
    before = gradient(clip_ensemble(scores, [(first + second) / 2]))
    assert (found - before).abs().max() > 0.01


def test_clip_ensemble__is_nothing_at_its_one_teacher() -> None:
    student, _, batch = samples(4)
    features = {k: v.detach() for k, v in student.features.items()}
    loss = loss_of({"only": (5, 9.0)})
    assert loss.teacher_taps() == ("image_embedding", "text_embedding")
    value = loss(student, Outputs(torch.zeros(4, 2), features), batch)
    assert float(value.detach()) == pytest.approx(0, abs=1e-6)
    shifted = Outputs(torch.zeros(4, 2), {**features, "image_embedding": features["image_embedding"].roll(1, 0)})
    assert float(loss(student, shifted, batch).detach()) > 0.1


def test_clip_ensemble__reaches_both_towers_and_the_scale() -> None:
    student, teacher, batch = samples(4)
    loss_of()(student, teacher, batch).backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in student.features.values())


def test_init__wrong_arguments() -> None:
    with pytest.raises(ValueError, match="teachers must name at least one"):
        CLIPEnsemble([])
    with pytest.raises(ValueError, match="scale must be above 0, got 0"):
        CLIPEnsemble(["a"], scale=0.0)


def test_prepare__wrong_taps() -> None:
    mine = {"image_embedding": Spec((5,)), "text_embedding": Spec((5,)), "scale": Spec(())}
    with pytest.raises(ValueError, match=r"'a/image_embedding' of shape \(3,\) and 'a/text_embedding' of shape \(4,\)"):
        loss_of().prepare(mine, {"a/image_embedding": Spec((3,)), "a/text_embedding": Spec((4,))})
    with pytest.raises(ValueError, match="the teacher gives no 'a/image_embedding'"):
        loss_of().prepare(mine, {"logits": Spec((3,))})
    with pytest.raises(ValueError, match="the teacher embeds no text"):
        CLIPEnsemble(["a"]).meet(TrainingSet(torch.zeros(4, dtype=torch.long), 2))
    with pytest.raises(ValueError, match="teachers: 'c' is no image-text teacher here; choose of a"):
        CLIPEnsemble(["c"]).meet(TrainingSet(torch.zeros(4, dtype=torch.long), 2, {"a": Anchors(torch.eye(2), 5.0)}))


def part_of(part: slice) -> tuple[Tensor, Tensor]:
    """Return value and gradient at the student's images of the part of a batch that a process has."""
    student, teacher, batch = samples(6)
    own = student.features["image_embedding"].detach()[part].requires_grad_()
    mine = {k: v.detach()[part] for k, v in student.features.items()}
    told = {k: v[part] for k, v in teacher.features.items()}
    value = loss_of()(
        Outputs(student.logits[part], {**mine, "image_embedding": own}), Outputs(teacher.logits[part], told),
        batch.take(torch.arange(6)[part]),
    )  # fmt: skip
    value.backward()
    assert own.grad is not None
    return value.detach(), own.grad


def test_clip_ensemble__two_processes_are_as_one(tmp_path: Path) -> None:
    def child(rank: int) -> None:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=rank, world_size=2)
        torch.save(part_of(slice(3 * rank, 3 * rank + 3)), tmp_path / f"{rank}.pt")
        distributed.destroy_process_group()
        os._exit(0)

    processes = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    value, gradient = part_of(slice(0, 6))
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for rank, (theirs, own) in enumerate(found):
        torch.testing.assert_close(theirs, value)
        torch.testing.assert_close(own / 2, gradient[3 * rank : 3 * rank + 3])  # DDP averages over processes
