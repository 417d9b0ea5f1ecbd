"""Apart: the gradient of the terms that read the teacher, by itself, for an optimizer that asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from pytorch_lightning.strategies import DDPStrategy, Strategy
from torch import Tensor, nn


@runtime_checkable
class Asks(Protocol):
    """An optimizer that moves by the gradient of distillation in another way than by the rest."""

    def take_distillation(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
        """Take the gradient of distillation, summed over the batches of a step, before that step."""


class Apart:
    """Gathers the gradient of distillation over the batches of an optimizer step.

    A term that reads the teacher belongs to distillation as a whole. The gradient is asked for beside the one that
    ``backward`` leaves in the parameters, which stays that of the whole objective.

    Args:
        optimizer: who asks.
        student: whose parameters both kinds of terms reach; connectors are reached by their own term only.
    """

    def __init__(self, optimizer: Asks, student: nn.Module) -> None:
        self.optimizer = optimizer
        self.parameters = [p for p in student.parameters() if p.requires_grad]
        self._sums: dict[nn.Parameter, Tensor] = {}

    def add(self, value: Tensor) -> None:
        """Add the gradient of a value, whose graph is kept."""
        found = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(self.parameters, found, strict=True):
            if gradient is not None:
                before = self._sums.get(parameter)
                self._sums[parameter] = gradient if before is None else before + gradient

    def hand_over(self, strategy: Strategy, norm: Tensor | None, largest: float | None) -> None:
        """Give the optimizer what was gathered, and begin anew.

        Args:
            strategy: averages it over the processes of a training.
            norm: of the gradient of the whole objective before it was clipped, None where none is.
            largest: what that norm may be; both gradients are shrunk by the same factor.
        """
        parameters, gradients = list(self._sums), list(self._sums.values())
        self._sums = {}
        if gradients and isinstance(strategy, DDPStrategy):
            flat = strategy.reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
            assert isinstance(flat, Tensor)
            parts = flat.split([g.numel() for g in gradients])
            gradients = [part.view_as(p) for p, part in zip(parameters, parts, strict=True)]
        if gradients and norm is not None and largest is not None:
            torch._foreach_mul_(gradients, (largest / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.take_distillation(parameters, gradients)


def refused(optimizer: object, trainer: Mapping[str, Any], compiled: bool) -> str | None:
    """Return a sentence where an optimizer asks for what a training cannot give; None where it can, or none is asked.

    Args:
        optimizer: what the config makes one from.
        trainer: config of the trainer.
        compiled: whether the student is compiled.
    """
    made = getattr(optimizer, "func", optimizer)
    if not hasattr(made, "take_distillation"):
        return None
    name = getattr(made, "__name__", type(made).__name__)
    why = f"{name} takes the gradient of distillation apart, which"
    if trainer.get("precision") in (16, "16", "16-mixed"):
        return (
            f"trainer.precision={trainer['precision']}: {why} loses its scale in half precision; take bf16-mixed or 32"
        )
    if trainer.get("gradient_clip_val") is not None and trainer.get("gradient_clip_algorithm") == "value":
        return f"trainer.gradient_clip_algorithm=value: {why} can be clipped by the norm of the whole only; take norm"
    several = trainer.get("devices") not in (1, "1") or trainer.get("num_nodes", 1) > 1
    strategy = trainer.get("strategy", "auto")
    if several and not (isinstance(strategy, str) and strategy.startswith(("ddp", "auto"))):
        return f"trainer.strategy={strategy}: {why} is averaged over processes of ddp only; take ddp"
    if compiled:
        return f"compile=true: {why} needs the graph twice, and compiled networks give it once; take compile=false"
    return None
