"""Evaluates a network on a split: accuracy, likelihood, calibration, accuracy by class, agreement with a teacher."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from distill.corruption import KINDS, corrupted
from distill.outputs import Batch, Outputs
from distill.taps import Tapped


def moved(loader: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Give the batches of a loader on a device."""
    for batch in loader:
        yield batch.to(device)


@torch.inference_mode()
def predict(network: Tapped, loader: Iterable[Batch], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits ``(N, K)`` in float32 and targets ``(N,)`` of a whole split, on the CPU."""
    network.to(device).eval()
    logits, targets = [], []
    for batch in moved(loader, device):
        logits.append(network(batch.inputs, batch.text).logits.float().cpu())
        targets.append(batch.target.cpu())
    return torch.cat(logits), torch.cat(targets)


def scores(logits: Tensor, target: Tensor) -> dict[str, Any]:
    """Return what a table reports of one split.

    Args:
        logits: ``(N, K)``.
        target: ``(N,)``.

    Returns:
        ``accuracy``, ``top5`` and ``ece`` (15 bins) in percent, ``nll`` in nats, ``by_class`` accuracies in percent.
    """
    classes = logits.shape[1]
    predicted = logits.argmax(1)
    right = (predicted == target).float()
    top5 = (logits.topk(min(5, classes), 1).indices == target[:, None]).any(1).float()
    count = torch.bincount(target, minlength=classes)
    by_class = torch.bincount(target, weights=right, minlength=classes) / count.clamp(min=1)
    ece = multiclass_calibration_error(logits.softmax(1), target, num_classes=classes, n_bins=15)
    return {
        "accuracy": 100 * right.mean().item(),
        "top5": 100 * top5.mean().item(),
        "nll": F.cross_entropy(logits, target).item(),
        "ece": 100 * ece.item(),
        "by_class": [100 * v if n else None for v, n in zip(by_class.tolist(), count.tolist(), strict=True)],
        "samples": len(target),
    }


def under_corruption(
    network: Tapped, loader: Iterable[Batch], device: torch.device, level: int = 3
) -> dict[str, float]:
    """Return the accuracy in percent on a split under each kind of corruption, and their ``mean``."""
    found = {}
    for kind in KINDS:
        logits, target = predict(network, corrupted(loader, kind, level), device)
        found[kind] = 100 * (logits.argmax(1) == target).float().mean().item()
    return {**found, "mean": sum(found.values()) / len(found)}


def agreement(logits: Tensor, answers: Iterable[Outputs]) -> float:
    """Return the percentage of samples on which student logits ``(N, K)`` and a teacher, batch by batch, agree."""
    told = torch.cat([outputs.logits.argmax(1).cpu() for outputs in answers])
    return 100 * (told == logits.argmax(1)).float().mean().item()
