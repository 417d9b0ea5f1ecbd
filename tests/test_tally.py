"""What an epoch counts, by hand: means over samples and not over batches, credit, the first term that is no number."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.modules.tally import Tally, mark, marks, seen
from distill.outputs import Batch, Outputs


class Alone:
    """A strategy of one process."""

    def reduce(self, tensor: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        return tensor


def batch(target: list[int], scores: Tensor | None = None, box: Tensor | None = None) -> Batch:
    number = torch.arange(len(target))
    pixels = torch.zeros(len(target), 3, 2, 2)
    return Batch(pixels, torch.tensor(target), number, 0 * number, scores=scores, box=box)


def says(*classes: int) -> Outputs:
    """Return logits of three classes, 1 for the one that is predicted."""
    return Outputs(torch.eye(3)[list(classes)])


def values(*numbers: float) -> list[Tensor]:
    return [torch.tensor(n) for n in numbers]


def test_tally__means_over_samples() -> None:
    tally: Any = Tally(["ce", "kd"])
    tally.add([seen(0, values(1.0, 4.0, 5.0), says(0, 1), says(0, 0), batch([0, 2]))])
    tally.add([seen(1, values(2.0, 0.0, 2.0), says(1, 1, 1), None, batch([1, 1, 0]))])
    tally.add([])
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    tally.norm([weight, torch.nn.Parameter(torch.zeros(1))])
    assert tally.diverged() is None
    assert tally.take(Alone()) == {
        "loss/ce": (2 * 1 + 3 * 2) / 5, "loss/kd": 2 * 4 / 5, "train/loss": (2 * 5 + 3 * 2) / 5,
        "train/accuracy": 100 * 3 / 5, "train/agreement": 50.0, "train/grad_norm": 5.0,
    }  # fmt: skip
    assert not tally.sums.any()


def test_tally__an_answer_counts_what_it_is_worth() -> None:
    scores = torch.tensor([[0.3, 1.0, 0.0], [0.0, 0.0, 0.6]])
    tally: Any = Tally(["bce"])
    tally.add([seen(0, values(1.0, 1.0), says(0, 2), None, batch([1, 2], scores))])
    found = tally.take(Alone())
    assert found["train/accuracy"] == pytest.approx(100 * (0.3 + 0.6) / 2)
    assert "train/agreement" not in found
    assert "train/grad_norm" not in found


def test_diverged__names_the_first_term_and_not_the_total_that_it_spoils() -> None:
    tally = Tally(["ce", "kd"])
    good, bad = values(1.0, 1.0, 2.0), values(1.0, math.inf, math.inf)
    tally.add(
        [seen(step, v, says(0), None, batch([0])) for step, v in ((3, good), (4, bad), (5, values(*3 * [math.nan])))]
    )
    assert tally.diverged() == ("kd", 4)
    tally.add([seen(6, good, says(0), None, batch([0]))])
    assert tally.diverged() == ("kd", 4)


def test_mark__accuracy_and_likelihood_of_a_split() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    target = [0, 1]
    sums = marks(Outputs(logits), batch(target)) + marks(Outputs(logits), batch(target))
    expected = (math.log(math.e**2 + 2) - 2 + math.log(math.e + 2)) / 2
    assert mark("test", sums) == {"test/accuracy": 50.0, "test/nll": pytest.approx(expected, rel=1e-6)}


def test_mark__questions_that_no_answer_is_right_to() -> None:
    scores = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = mark("test", marks(Outputs(logits), batch([1, 0], scores)))
    assert found["test/accuracy"] == 25.0  # half of one of two
    assert found["test/nll"] == pytest.approx(math.log(math.e + 2) - 1, rel=1e-6)  # of the one that has an answer
