"""Tally: what an epoch counts (losses, right answers, agreement, gradient norms), on the device and read at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, nn
from torch.nn import functional as F

from distill.outputs import Batch, Outputs
from distill.pointing import counts as pointed

MARKS = 6
"""Numbers that :func:`marks` counts."""


class Seen(NamedTuple):
    """What is kept of one batch until its chunk is over.

    Attributes:
        step: optimizer steps before it.
        values: scalars, of each term and then of the total.
        predicted: the student's class ``(N,)``.
        told: the teacher's class ``(N,)``; None where it was not asked.
        target: class ``(N,)``.
        credit: what the predicted answer is worth ``(N,)``; None where only the target is right.
    """

    step: int
    values: list[Tensor]
    predicted: Tensor
    told: Tensor | None
    target: Tensor
    credit: Tensor | None


def seen(step: int, values: list[Tensor], student: Outputs, teacher: Outputs | None, batch: Batch) -> Seen:
    """Return what is kept of a batch.

    Args:
        step: optimizer steps before it.
        values: scalars, of each term and then of the total, detached.
        student: what the student said of it.
        teacher: what the teacher said of it.
        batch: the batch.
    """
    told = None if teacher is None else teacher.logits.argmax(1)
    predicted = student.logits.argmax(1)
    credit = None if batch.scores is None else batch.scores.gather(1, predicted[:, None])[:, 0]
    return Seen(step, values, predicted, told, batch.target, credit)


class Tally:
    """Sums over an epoch that no step has to wait for.

    Args:
        names: terms of the objective, in order.

    Attributes:
        sums: of each term; then of loss, right answers, agreement with the teacher, answers by it, samples, gradient
            norms and their number ``(terms + 7,)``, float64; in every checkpoint. A plain tensor and no buffer, which
            weight averaging would average and swap.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self.sums = torch.zeros(len(self.names) + 7, dtype=torch.float64)
        self._first_bad = torch.full((len(self.names) + 1,), -1)

    def to(self, device: torch.device) -> None:
        """Count on a device."""
        self.sums, self._first_bad = self.sums.to(device), self._first_bad.to(device)

    def norm(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add the norm of the gradients of parameters."""
        self.sums[-2] += torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        self.sums[-1] += 1

    @torch.no_grad()
    def add(self, chunk: Sequence[Seen]) -> None:
        """Add what a chunk showed."""
        if not chunk:
            return
        device = self.sums.device
        values = torch.stack([value for one in chunk for value in one.values]).view(len(chunk), -1)
        sizes = torch.tensor([len(one.target) for one in chunk], dtype=torch.float64).to(device, non_blocking=True)
        predicted, target = torch.cat([one.predicted for one in chunk]), torch.cat([one.target for one in chunk])
        credits = [one.credit for one in chunk if one.credit is not None]
        correct = torch.cat(credits).double().sum() if credits else (predicted == target).sum()
        asked = [one for one in chunk if one.told is not None]
        zero = torch.zeros_like(correct)
        agree, answered = zero, 0
        if asked:
            told = torch.cat([one.told for one in asked if one.told is not None])
            agree = (torch.cat([one.predicted for one in asked]) == told).sum()
            answered = len(told)
        counts = torch.stack([correct, agree, zero + answered, zero + len(target)])
        self.sums[: values.shape[1] + 4] += torch.cat([(values.double() * sizes[:, None]).sum(0), counts.double()])
        steps = torch.tensor([one.step for one in chunk]).to(device, non_blocking=True)
        never = torch.iinfo(torch.int64).max
        first = torch.where(values.isfinite(), never, steps[:, None]).min(0).values
        found = (self._first_bad < 0) & (first < never)
        self._first_bad = torch.where(found, first, self._first_bad)

    def diverged(self) -> tuple[str, int] | None:
        """Return the term that was first NaN or infinite, and the step; None while there is none. Waits for a GPU."""
        steps = self._first_bad.tolist()
        bad = [(step, name) for step, name in zip(steps, [*self.names, "total"], strict=True) if step >= 0]
        if not bad:
            return None
        step, name = min(bad, key=lambda b: (b[0], b[1] == "total"))
        return name, step

    def take(self, strategy: Strategy) -> dict[str, float]:
        """Return means by name, over all processes, and begin anew."""
        sums: Any = strategy.reduce(self.sums.clone(), reduce_op="sum")
        *terms, total, correct, agree, answered, count, norm, norms = sums.tolist()
        row = {f"loss/{k}": v / count for k, v in zip(self.names, terms, strict=True)}
        row |= {"train/loss": total / count, "train/accuracy": 100 * correct / count}
        if answered:
            row["train/agreement"] = 100 * agree / answered
        if norms:
            row["train/grad_norm"] = norm / norms
        self.sums.zero_()
        return row


def marks(student: Outputs, batch: Batch) -> Tensor:
    """Count one evaluation batch.

    Returns:
        Right answers (or their credit), sum of the negative log-likelihood, samples, those that have a right answer,
        looks at what was asked about and samples of which that is known ``(MARKS,)``, float64.
    """
    logits = student.logits.float()
    predicted = logits.argmax(1)
    if batch.scores is None:
        correct = (predicted == batch.target).sum()
        nll = F.cross_entropy(logits, batch.target, reduction="sum")
        size = known = torch.full_like(nll, len(batch.target))
    else:  # where no answer has credit there is no target either
        correct, answered = batch.scores.gather(1, predicted[:, None]).sum(), batch.scores.amax(1) > 0
        nll = (F.cross_entropy(logits, batch.target, reduction="none") * answered).sum()
        size, known = torch.full_like(nll, len(batch.target)), answered.sum()
    return torch.cat([torch.stack([correct, nll, size, known]), pointed(student, batch.box, nll)]).double()


def mark(name: str, sums: Tensor) -> dict[str, float]:
    """Return accuracy, negative log-likelihood and pointing of a split by name, of the sums of :func:`marks`."""
    correct, nll, size, known, hit, boxed = sums.tolist()
    row = {f"{name}/accuracy": 100 * correct / size, f"{name}/nll": nll / max(known, 1)}
    return row | ({f"{name}/pointing": 100 * hit / boxed} if boxed else {})
