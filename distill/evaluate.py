"""Evaluates a network on a split: accuracy, likelihood, calibration, accuracy by class, agreement with a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.corruption import KINDS, corrupted
from distill.data.base import ImageData
from distill.data.images import Notes
from distill.outputs import Batch, Outputs
from distill.priors import Prior, credited, prior
from distill.taps import Tapped

_NONE = Notes()


def moved(loader: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Give the batches of a loader on a device."""
    for batch in loader:
        yield batch.to(device)


@torch.inference_mode()
def predict(
    network: Tapped, loader: Iterable[Batch], device: torch.device, look: Callable[[Outputs], None] | None = None
) -> tuple[Tensor, Tensor]:
    """Return logits ``(N, K)`` in float32 and targets ``(N,)`` of a whole split, on the CPU.

    Args:
        network: answers.
        loader: of the split.
        device: that it answers on.
        look: called with what it says of each batch, features too.
    """
    network.to(device).eval()
    logits, targets = [], []
    for batch in moved(loader, device):
        outputs = network(batch.inputs, batch.text)
        logits.append(outputs.logits.float().cpu())
        if look is not None:
            look(outputs)
        targets.append(batch.target.cpu())
    return torch.cat(logits), torch.cat(targets)


def scores(
    logits: Tensor, target: Tensor, notes: Notes = _NONE, kinds: Sequence[str] = (), priors: Prior | None = None
) -> dict[str, Any]:
    """Return what a table reports of one split.

    Where answers have a credit, accuracy is the mean credit of the answer given (VQA accuracy), and top5 that of the
    best of five. Calibration and likelihood are of the target, the answer with most credit, and leave out questions
    no answer to which has any.

    Args:
        logits: ``(N, K)``.
        target: ``(N,)``.
        notes: of the same samples.
        kinds: names of the kinds of samples that the notes tell apart.
        priors: answers without a look, where samples are questions.

    Returns:
        ``accuracy``, ``top5`` and ``ece`` (15 bins) in percent, ``nll`` in nats, ``by_class`` accuracies in percent;
        ``by_kind`` where there are kinds; ``majority``, ``prior`` and ``prior_by_kind`` where there are questions.
    """
    classes = logits.shape[1]
    right = credited(logits.argmax(1), target, notes)
    best = logits.topk(min(5, classes), 1).indices.unbind(1)
    top5 = torch.stack([credited(one, target, notes) for one in best]).amax(0)
    count = torch.bincount(target, minlength=classes)
    by_class = torch.bincount(target, weights=right, minlength=classes) / count.clamp(min=1)
    known = slice(None) if notes.credit is None else notes.credit.amax(1) > 0
    told, meant = logits[known], target[known]
    ece = multiclass_calibration_error(told.softmax(1), meant, num_classes=classes, n_bins=15)
    found: dict[str, Any] = {
        "accuracy": 100 * right.mean().item(),
        "top5": 100 * top5.mean().item(),
        "nll": F.cross_entropy(told, meant).item(),
        "ece": 100 * ece.item(),
        "by_class": [100 * v if n else None for v, n in zip(by_class.tolist(), count.tolist(), strict=True)],
        "samples": len(target),
    }
    if notes.kind is not None:
        found["by_kind"] = by_kind(right, notes.kind, kinds)
    if priors is not None:
        asked = credited(priors.question, target, notes)
        found["majority"] = 100 * credited(priors.majority, target, notes).mean().item()
        found["prior"] = 100 * asked.mean().item()
        if notes.kind is not None:
            found["prior_by_kind"] = by_kind(asked, notes.kind, kinds)
    return found


def by_kind(right: Tensor, kind: Tensor, kinds: Sequence[str]) -> dict[str, float | None]:
    """Return accuracy in percent by name of kind, None for a kind without samples.

    Args:
        right: credit of each answer ``(N,)``.
        kind: of each sample ``(N,)``.
        kinds: their names.
    """
    chosen = {name: right[kind == i] for i, name in enumerate(kinds)}
    return {name: 100 * values.mean().item() if len(values) else None for name, values in chosen.items()}


def measured(data: ImageData, split: str, logits: Tensor, target: Tensor) -> dict[str, Any]:
    """Return the scores of logits ``(N, K)`` of a whole split, with all that its data tell of the samples.

    Raises:
        ValueError: when there is no such split.
    """
    images = data.splits[split]
    priors = prior(data.splits["train"], images, data.texts) if data.asks else None
    return scores(logits, target, images.notes, data.kinds, priors)


def under_corruption(
    network: Tapped, loader: Iterable[Batch], device: torch.device, level: int = 3, notes: Notes = _NONE
) -> dict[str, float]:
    """Return the accuracy in percent on a split under each kind of corruption, and their ``mean``.

    Args:
        network: answers.
        loader: of the split.
        device: that it answers on.
        level: how strong, 1 to 5.
        notes: of the samples in order, where answers have a credit.
    """
    found = {}
    for kind in KINDS:
        logits, target = predict(network, corrupted(loader, kind, level), device)
        found[kind] = 100 * credited(logits.argmax(1), target, notes).mean().item()
    return {**found, "mean": sum(found.values()) / len(found)}


def agreement(logits: Tensor, answers: Iterable[Outputs]) -> float:
    """Return the percentage of samples on which student logits ``(N, K)`` and a teacher, batch by batch, agree."""
    told = torch.cat([outputs.logits.argmax(1).cpu() for outputs in answers])
    return 100 * (told == logits.argmax(1)).float().mean().item()
