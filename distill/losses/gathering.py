"""Gathers what the processes of a distributed run hold, so that a loss over the batch sees the batch of one process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed

from distill.data.loader import place
from distill.outputs import Batch, Outputs


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        rank, ctx.world = place()
        ctx.mine = slice(rank * len(tensor), (rank + 1) * len(tensor))
        parts = [torch.empty_like(tensor) for _ in range(ctx.world)]
        distributed.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # every process computes the same loss, and DDP takes the mean of gradients over processes where the batch
        # of one process has their sum; so no gradient has to travel, and each has to count once for each process
        return ctx.world * gradients[0][ctx.mine]


def gather(tensor: Tensor) -> Tensor:
    """Return the parts ``(N, ...)`` of all processes in the order of their ranks ``(W N, ...)``; itself in one process.

    The gradient goes to this process' own part, times W: under DDP, a loss that each process computes of gathered
    tensors then has the gradient of one process with the whole batch. Every process must hold as many samples, which
    the training loader sees to.
    """
    if place()[1] == 1:
        return tensor
    gathered: Tensor = _Gather.apply(tensor.contiguous())
    return gathered


def gather_logits(student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Outputs, Outputs, Batch]:
    """Return what a loss over logits, its temperature included, reads of all processes: the logits and the targets."""
    if place()[1] == 1:
        return student, teacher, batch
    told = Outputs(gather(student.logits)), Outputs(gather(teacher.logits))
    return *told, batch._replace(target=gather(batch.target))
