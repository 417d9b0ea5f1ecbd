"""CRD against loops over samples and negatives, over several steps of a memory that is kept by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.losses import crd as module
from distill.losses.crd import CRD, crd, scores
from distill.outputs import Batch, Outputs, Spec, TrainingSet

SAMPLES, CLASSES = 20, 4
TARGET = torch.arange(SAMPLES) % CLASSES


def direction(embedding: Tensor, bank: Tensor, chosen: Tensor, tau: float, z: Tensor) -> Tensor:
    noise = (chosen.shape[1] - 1) / len(bank)
    total = torch.zeros((), dtype=torch.float64)
    for vector, row in zip(embedding, chosen.tolist(), strict=True):
        for place, which in enumerate(row):
            h = torch.exp((vector * bank[which]).sum() / tau) / z
            total = total - torch.log(h / (h + noise) if place == 0 else noise / (h + noise))
    return total / len(embedding)


def made(**kwargs: object) -> CRD:
    torch.manual_seed(1)
    loss = CRD("a", "b", **{"dim": 6, "negatives": 5, "temperature": 0.3, **kwargs})
    loss.prepare({"a": Spec((3,))}, {"b": Spec((7,))})
    loss.meet(TrainingSet(TARGET, CLASSES))
    return loss


def example(step: int, size: int = 4) -> tuple[Outputs, Outputs, Batch]:
    random = torch.Generator().manual_seed(step)
    index = torch.randperm(SAMPLES, generator=random)[:size]
    mine, other = (torch.randn(size, d, generator=random) for d in (3, 7))
    logits = torch.zeros(size, CLASSES)
    batch = Batch(torch.zeros(size, 1, 2, 2), TARGET[index], index, 0 * index)
    return Outputs(logits, {"a": mine.requires_grad_()}), Outputs(logits, {"b": other}), batch


@pytest.mark.parametrize("kwargs", [{}, {"mode": "relax", "momentum": 0.9}, {"negatives": 18, "temperature": 0.07}])
def test_crd__three_steps_of_values_gradients_and_memory(kwargs: dict[str, object]) -> None:
    loss = made(**kwargs)
    banks = [m.bank.double().clone() for m in (loss.bank_student, loss.bank_teacher)]
    weights = [copy(p) for p in (loss.embed_student, loss.embed_teacher)]
    momentum, tau = loss.momentum, float(loss.temperature)
    z: list[Tensor] = []
    for step in range(3):
        student, teacher, batch = example(step)
        chosen = loss.contrast.draw(batch.index, step, loss.negatives)
        value = loss(student, teacher, batch)
        exact = student.features["a"].detach().double().requires_grad_()
        embedded = []
        for x, (w, b) in zip((exact, teacher.features["b"].double()), weights, strict=True):
            y = x @ w.T + b
            embedded.append(y / y.norm(dim=1, keepdim=True))
        if not z:
            z = [
                SAMPLES * torch.stack([(v * bank[c] / tau).sum(1).exp() for v, c in zip(e, chosen, strict=True)]).mean()
                for e, bank in zip(embedded, banks[::-1], strict=True)
            ]
            z = [value.detach() for value in z]
        expected = sum(direction(e, b, chosen, tau, n) for e, b, n in zip(embedded, banks[::-1], z, strict=True))
        value.backward()
        expected.backward()
        torch.testing.assert_close(value.double(), expected, rtol=2e-6, atol=0)
        torch.testing.assert_close(student.features["a"].grad.double(), exact.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(loss.embed_teacher.weight.grad.double(), weights[1][0].grad, rtol=1e-4, atol=1e-6)
        for bank, new, memory in zip(banks, embedded, (loss.bank_student, loss.bank_teacher), strict=True):
            for vector, i in zip(new.detach(), batch.index.tolist(), strict=True):
                mixed = momentum * bank[i] + (1 - momentum) * vector
                bank[i] = mixed / mixed.norm()
            torch.testing.assert_close(memory.read().double(), bank, rtol=1e-5, atol=1e-6)


def copy(layer: torch.nn.Module) -> tuple[Tensor, Tensor]:
    weight, bias = (p.detach().double().requires_grad_() for p in layer.parameters())
    return weight, bias


def test_crd__by_hand() -> None:
    """With h equal to K/M everywhere each of the 1 + K answers costs log 2."""
    logits = torch.full((2, 4), math.log(3 / 12))
    assert crd(logits, torch.zeros(()), samples=12).item() == pytest.approx(4 * math.log(2))


@pytest.mark.parametrize("rows, picked", [(30, 4), (30, 3), (1000, 4)])
def test_scores__both_ways_are_one(rows: int, picked: int) -> None:
    embedding, bank = torch.randn(5, 8, requires_grad=True), torch.randn(rows, 8)
    chosen = torch.stack([torch.randperm(rows)[:picked] for _ in range(5)])
    value = scores(embedding, bank, chosen)
    expected = torch.einsum("nd,nkd->nk", embedding, bank[chosen])
    torch.testing.assert_close(value, expected)
    weights = torch.randn(5, picked)
    (one,) = torch.autograd.grad((value * weights).sum(), embedding)
    (other,) = torch.autograd.grad((expected * weights).sum(), embedding)
    torch.testing.assert_close(one, other)


def test_forward__holds_no_embedding_of_each_negative() -> None:
    """The largest tensor kept for the backward pass has a number a sample and row, not dim of them a negative."""
    sizes = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    loss = made(dim=64, negatives=12)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(*example(0))
    assert max(sizes) <= max(4 * SAMPLES, SAMPLES * 64)  # products, and the bank itself


def test_forward__evaluation_changes_no_memory() -> None:
    loss = made().eval()
    before = loss.bank_student.read().clone()
    loss(*example(0))
    assert torch.equal(loss.bank_student.read(), before)
    assert loss.steps == 0


def test_state__goes_on_as_if_never_stopped() -> None:
    one, other = made(), made(temperature=0.3)
    other.contrast.seed += 1
    for step in range(2):
        one(*example(step))
    other.load_state_dict(one.state_dict())
    for step in range(2, 4):
        assert torch.equal(one(*example(step)), other(*example(step)))
    assert torch.equal(one.bank_teacher.read(), other.bank_teacher.read())


def test_forward__no_training_set() -> None:
    loss = CRD("a", "b")
    loss.prepare({"a": Spec((3,))}, {"b": Spec((7,))})
    with pytest.raises(ValueError, match="keeps an embedding of every training sample and has met none"):
        loss(*example(0))


def test_meet__one_class_only() -> None:
    with pytest.raises(ValueError, match="needs negatives of other classes, and all 9 training samples are of one"):
        CRD().meet(TrainingSet(torch.zeros(9, dtype=torch.int64), 10))


def test_meet__banks_that_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Memory", None)  # nothing may be made
    with pytest.raises(ValueError, match="two banks of training samples of 40 x 128 float32 take 2.05e-05 GB"):
        CRD(limit_gb=1e-6).meet(TrainingSet(TARGET, CLASSES))


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"mode": "hard"}, "mode must be one of exact, relax, got 'hard'"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1"),
        ({"negatives": 0}, "dim and negatives must be at least 1, got 128 and 0"),
        ({"temperature": 0.0}, "temperature must be above 0"),
    ],
)
def test_init__out_of_range(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CRD(**wrong)


def test_crd__large_products_stay_finite() -> None:
    logits = torch.tensor([[300.0, -300.0, 300.0]], requires_grad=True)
    value = crd(logits, torch.zeros(()), samples=10)
    value.backward()
    assert logits.grad.isfinite().all()
    assert value.item() == pytest.approx(300 - math.log(0.2) + F.softplus(torch.tensor(-300.0)).item())
