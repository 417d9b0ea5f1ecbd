"""Each temperature that looks at a batch against its formula in plain Python, and what refuses mistakes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.losses.kd import kd
from distill.schedules.base import Progress
from distill.schedules.certainty import Certainty, certainty
from distill.schedules.ctkd import CTKD, Reversal
from distill.schedules.ctkd_instance import InstanceCTKD
from distill.schedules.dtkd import DTKD
from distill.schedules.entropy_match import EntropyMatch, entropy, match
from distill.schedules.gap import Gap
from distill.schedules.max_logit import MaxLogit

TARGET = torch.tensor([0, 2, 1])


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return 2 * torch.randn(3, 4), 3 * torch.randn(3, 4)


def softmax(row: list[float]) -> list[float]:
    weights = [math.exp(v - max(row)) for v in row]
    return [w / sum(weights) for w in weights]


def test_ctkd__starts_as_published() -> None:
    zeros = torch.zeros(1, 2)
    assert CTKD().temperatures(zeros, zeros, TARGET[:1]).item() == pytest.approx(15.6212, abs=1e-4)


def test_reversal__half_a_cosine_counted_from_one() -> None:
    factor = Reversal(0.0, -1.0, 10)
    values = [factor(epoch) for epoch in range(1, 15)]
    assert values == pytest.approx([(math.cos(min(e, 10) * math.pi / 10) + 1) / 2 - 1 for e in range(1, 15)])
    assert values[0] == pytest.approx(-0.0245, abs=1e-4)
    assert values[9:] == [-1.0] * 5


@pytest.mark.parametrize("t2", [True, False])
def test_ctkd__gradient_is_that_of_theta_reversed(logits: tuple[Tensor, Tensor], t2: bool) -> None:
    student, teacher = logits
    adaptive = CTKD(t_start=1.5, t_end=7.0, theta=0.3, decay_loops=4)
    adaptive.set_progress(Progress(0.0, epoch=2))
    kd(student, teacher, adaptive.temperatures(student, teacher, TARGET), t2).backward()

    def loss(theta: float) -> float:
        temperature = 1.5 + 7.0 / (1 + math.exp(-theta))
        total = 0.0
        for row_s, row_t in zip(student.tolist(), teacher.tolist(), strict=True):
            p, q = (softmax([v / temperature for v in row]) for row in (row_t, row_s))
            total += sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)) / 3
        return total * (temperature**2 if t2 else 1)

    slope = (loss(0.3 + 1e-5) - loss(0.3 - 1e-5)) / 2e-5
    assert adaptive.theta.grad.item() == pytest.approx(-0.5 * slope, rel=1e-3)


def test_ctkd__a_step_of_the_optimizer_raises_the_loss(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    adaptive = CTKD(decay_loops=1)
    optimizer = torch.optim.SGD(adaptive.parameters(), lr=0.1)
    before = kd(student, teacher, adaptive.temperatures(student, teacher, TARGET))
    before.backward()
    optimizer.step()
    assert kd(student, teacher, adaptive.temperatures(student, teacher, TARGET)) > before


def test_instance__starts_as_the_global_one_and_then_tells_samples_apart(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    student.requires_grad_()
    adaptive = InstanceCTKD(decay_loops=1)
    adaptive.prepare(4)
    first = adaptive.temperatures(student, teacher, TARGET)
    assert first.tolist() == pytest.approx([15.6212] * 3, abs=1e-4)
    optimizer = torch.optim.SGD(adaptive.parameters(), lr=1.0)
    (gradient,) = torch.autograd.grad(kd(student, teacher, first), student, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(kd(student, teacher, 15.621172), student)[0])
    kd(student, teacher, first).backward()
    optimizer.step()
    assert adaptive.temperatures(student, teacher, TARGET).unique().numel() == 3


@pytest.mark.parametrize("by", ["confidence", "entropy", "margin"])
def test_certainty__is_its_formula(by: str, logits: tuple[Tensor, Tensor]) -> None:
    expected = []
    for row in logits[1].tolist():
        p = sorted(softmax(row), reverse=True)
        h = -sum(v * math.log(v) for v in p)
        expected.append({"confidence": (4 * p[0] - 1) / 3, "entropy": 1 - h / math.log(4), "margin": p[0] - p[1]}[by])
    heat = Certainty(by, low=2.0, high=6.0).temperatures(*logits, TARGET)
    assert heat.tolist() == pytest.approx([2 + 4 * c for c in expected], rel=1e-5)
    other = Certainty(by, low=2.0, high=6.0, invert=True).temperatures(*logits, TARGET)
    assert other.tolist() == pytest.approx([6 - 4 * c for c in expected], rel=1e-5)


@pytest.mark.parametrize("by", ["confidence", "entropy", "margin"])
def test_certainty__from_none_to_all(by: str) -> None:
    assert certainty(torch.tensor([[3.0, 3.0, 3.0], [1e4, 0.0, 0.0]]), by).tolist() == pytest.approx([0, 1], abs=1e-6)
    assert certainty(torch.tensor([[7.0]]), by).tolist() == [1.0]


def test_max_logit__in_proportion_to_the_centred_maximum() -> None:
    teacher = torch.tensor([[9.0, 0.0, 0.0], [-1.0, -10.0, -10.0], [1.0, 1.0, 1.0], [300.0, 0.0, 0.0]])
    student = 2 * teacher
    target = torch.zeros(4, dtype=torch.int64)
    told = [3.0, 3.0, 1.0, 20.0]
    assert MaxLogit(scale=0.5).temperatures(student, teacher, target).tolist() == pytest.approx(told)
    own, other = MaxLogit(scale=0.5, separate=True).temperatures(student, teacher, target)
    assert own.tolist() == pytest.approx([6.0, 6.0, 1.0, 20.0])
    assert other.tolist() == pytest.approx(told)


def test_dtkd__shares_twice_t_by_the_largest_logits() -> None:
    student, teacher = torch.tensor([[2.0, -1.0, -1.0]]), torch.tensor([[6.0, 0.0, -6.0]])
    t_s, t_t = DTKD(temperature=4.0).temperatures(student, teacher, TARGET[:1])
    assert (t_s.item(), t_t.item()) == pytest.approx((2.0, 6.0))
    # a softmax does not see a shift, nor does T
    shifted = DTKD(temperature=4.0).temperatures(student - 50, teacher + 3, TARGET[:1])
    assert [t.item() for t in shifted] == pytest.approx([2.0, 6.0], rel=1e-5)
    strict = DTKD(temperature=4.0, strict_reference=True).temperatures(student - 50, teacher + 3, TARGET[:1])
    assert [t.item() for t in strict] == pytest.approx([2 * -48 / -39 * 4, 2 * 9 / -39 * 4])


def test_dtkd__strict_reference_is_the_code_where_maxima_are_positive(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = (z - z.mean(1, keepdim=True) for z in logits)
    own = DTKD(temperature=4.0).temperatures(student, teacher, TARGET)
    strict = DTKD(temperature=4.0, strict_reference=True).temperatures(student, teacher, TARGET)
    torch.testing.assert_close(own, strict)
    terms = []
    for row_s, row_t in zip(student.tolist(), teacher.tolist(), strict=True):
        t_s, t_t = (2 * max(row) / (max(row_s) + max(row_t)) * 4 for row in (row_s, row_t))
        p, q = softmax([v / t_t for v in row_t]), softmax([v / t_s for v in row_s])
        terms.append(t_s * t_t * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
    assert kd(student, teacher, strict).item() == pytest.approx(sum(terms) / 3, rel=1e-4)


def test_dtkd__gradient_passes_through_the_student_s_maximum(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = (z.double() for z in logits)
    adaptive = DTKD(temperature=4.0)

    def loss(z: Tensor) -> Tensor:
        return kd(z, teacher, adaptive.temperatures(z, teacher, TARGET))

    exact = student.clone().requires_grad_()
    loss(exact).backward()
    step = torch.zeros_like(student)
    step[1, 2] = 1e-2
    slope = (loss(student + step) - loss(student - step)) / 2e-2
    assert exact.grad[1, 2].item() == pytest.approx(slope.item(), rel=1e-2, abs=1e-4)


def test_match__reaches_the_entropy_by_another_way(logits: tuple[Tensor, Tensor]) -> None:
    goal = 0.6 * math.log(4)
    heat = match(logits[1], goal, 0.1, 50.0)
    for row, temperature in zip(logits[1].tolist(), heat.tolist(), strict=True):
        p = softmax([v / temperature for v in row])
        assert -sum(v * math.log(v) for v in p) == pytest.approx(goal, abs=1e-3)


def test_match__two_classes_by_hand() -> None:
    # H = ln 2 * h of a pair with a gap d is that of sigmoid(d / T), hence T = d / logit(p)
    p = 0.8
    goal = -(p * math.log(p) + (1 - p) * math.log(1 - p))
    heat = match(torch.tensor([[5.0, 0.0], [1.0, 4.0]]), goal, 0.5, 20.0)
    assert heat.tolist() == pytest.approx([5 / math.log(4), 3 / math.log(4)], rel=1e-4)


def test_entropy_match__beyond_the_bounds_and_separate(logits: tuple[Tensor, Tensor]) -> None:
    adaptive = EntropyMatch(entropy=0.5, low=1.0, high=10.0, separate=True)
    constant, certain = torch.zeros(3, 4), 1e4 * torch.eye(4)[:3]
    t_s, t_t = adaptive.temperatures(constant, certain, TARGET)
    assert t_s.tolist() == pytest.approx([1.0] * 3, rel=1e-3)
    assert t_t.tolist() == pytest.approx([10.0] * 3, rel=1e-3)
    t_s, t_t = EntropyMatch(entropy=0.5, low=0.01, high=100.0, separate=True).temperatures(*logits, TARGET)
    halves = [entropy(z / t[:, None]) / math.log(4) for z, t in zip(logits, (t_s, t_t), strict=True)]
    torch.testing.assert_close(torch.cat(halves), torch.full((6,), 0.5), rtol=0, atol=1e-3)


def ce(row: list[float], target: int) -> float:
    return -math.log(softmax(row)[target])


def gap(student: Tensor, teacher: Tensor) -> float:
    rows = zip(student.tolist(), teacher.tolist(), TARGET.tolist(), strict=True)
    return sum(ce(own, target) - ce(told, target) for own, told, target in rows) / len(TARGET)


def test_gap__falls_with_the_loss_gap_of_the_first_batches() -> None:
    teacher = torch.nn.functional.one_hot(TARGET, 4) * 5.0
    adaptive = Gap(low=1.0, high=5.0, batches=2)
    # a student that repeats the teacher at a part of its scale
    heats = [
        float(adaptive.temperatures(scale * teacher, teacher, TARGET)) for scale in (0.0, 0.2, 0.5, 1.0, 2.0, -1.0)
    ]
    first = [gap(scale * teacher, teacher) for scale in (0.0, 0.2, 0.5)]
    reference = (first[0] + first[1]) / 2
    assert heats == pytest.approx([5.0, 1 + 4 * first[1] / reference, 1 + 4 * first[2] / reference, 1.0, 1.0, 5.0])


def test_gap__agreement_is_a_part_of_the_batch_and_survives_a_checkpoint() -> None:
    teacher = torch.eye(4)
    target = torch.arange(4)
    adaptive = Gap(by="agreement", low=1.0, high=5.0, batches=1)
    assert float(adaptive.temperatures(teacher.roll(1, 0), teacher, target)) == 5.0
    half = teacher[[1, 0, 2, 3]]
    assert float(adaptive.temperatures(half, teacher, target)) == 3.0
    again = Gap(by="agreement", low=1.0, high=5.0, batches=1)
    again.load_state_dict(adaptive.state_dict())
    assert float(again.temperatures(half, teacher, target)) == 3.0
    fresh = Gap(by="agreement", low=1.0, high=5.0, batches=1)
    assert float(fresh.temperatures(half, teacher, target)) == 5.0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CTKD(t_start=0.0), "t_start must be above 0, got 0"),
        (lambda: CTKD(t_end=-1.0), "t_end must be above 0, got -1"),
        (lambda: CTKD(theta=math.nan), "theta must be a finite number, got nan"),
        (lambda: CTKD(decay_min=0.5), "decay_min must be below 0, which reverses the gradient, got 0.5"),
        (lambda: CTKD(decay_loops=0), "decay_loops must be at least 1 epoch, got 0"),
        (lambda: InstanceCTKD(t_start=-1.0), "t_start must be above 0, got -1"),
        (lambda: InstanceCTKD(hidden=0), "hidden must be at least 1, got 0"),
        (lambda: Certainty(low=0.0), "low=0, high=8: must be finite temperatures with 0 < low <= high"),
        (lambda: Certainty(high=math.inf), "low=1, high=inf: must be finite"),
        (lambda: MaxLogit(scale=0.0), "scale must be above 0, got 0"),
        (lambda: MaxLogit(low=3.0, high=2.0), "low=3, high=2: must be finite"),
        (lambda: DTKD(temperature=0.0), "temperature=0, low=0.5: must be finite with 0 < low <= temperature"),
        (lambda: DTKD(low=5.0), "temperature=4, low=5: must be finite with"),
        (lambda: EntropyMatch(entropy=1.0), "entropy must be a part of ln K between 0 and 1, got 1"),
        (lambda: EntropyMatch(low=math.nan), "low=nan, high=20: must be finite"),
        (lambda: Gap(low=-1.0), "low=-1, high=5: must be finite"),
        (lambda: Gap(batches=0), "batches must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_constructors__refuse_in_one_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
