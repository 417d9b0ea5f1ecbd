"""DOT: SGD with a momentum of its own for the gradient of distillation, longer than that for the gradient of the task.

Zhao et al., "DOT: A Distillation-Oriented Trainer", ICCV 2023 (arXiv:2307.08436):
``v_task = (mu - delta) v_task + g_task``, ``v_kd = (mu + delta) v_kd + g_kd``, ``theta -= lr (v_task + v_kd)``.

What is kept is ``v = v_task + v_kd``, beside ``v_kd``. With ``g = g_task + g_kd`` the update reads
``v_kd = (mu + delta) v_kd + g_kd``, ``v = (mu - delta) v + 2 delta v_kd_before + g``: it needs the gradient of the
whole objective, which every training step has, and that of distillation; ``delta = 0`` is SGD to the last bit.

Known to go wrong: the gradient of distillation is a second backward pass through the student, so compare by cost.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class DOT(Optimizer):
    """SGD with two momenta.

    A parameter that distillation never reached moves by SGD with momentum mu: a student that learns alone, a teacher,
    the connectors of a loss. Weight decay belongs to the task, as in the authors' code.

    Args:
        params: parameters, or groups of them.
        lr: gamma, learning rate.
        momentum: mu.
        delta: how far the momentum of distillation is above mu and that of the task below.
        weight_decay: added to the gradient of the task, times the parameter.
        nesterov: step along the gradient and the momenta after next, as in SGD; not in the paper.

    Raises:
        ValueError: when a momentum is outside [0, 1), or lr or weight_decay below 0.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float,
        momentum: float = 0.9,
        delta: float = 0.075,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if value < 0:
                raise ValueError(f"{name} must be at least 0, got {value:g}")
        if not abs(delta) <= momentum < 1 - abs(delta):
            raise ValueError(
                f"delta must leave momentum - delta and momentum + delta in [0, 1), got {delta:g} for {momentum:g}"
            )
        settings = {"lr": lr, "momentum": momentum, "delta": delta, "weight_decay": weight_decay, "nesterov": nesterov}
        super().__init__(params, settings)
        self._told: dict[Tensor, Tensor] = {}

    def take_distillation(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor]) -> None:
        """Take the gradient of distillation with respect to parameters, for the next step alone.

        A training module calls this because it is there, see :mod:`distill.modules.apart`.
        """
        self._told = dict(zip(parameters, gradients, strict=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for parameter in moved:
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                if parameter in self._told and "distillation_buffer" not in state:
                    state["distillation_buffer"] = torch.zeros_like(parameter)
            taught = [p for p in moved if "distillation_buffer" in self.state[p]] if group["delta"] else []
            known = set(taught)
            _move(taught, self.state, self._told, group)
            _move([p for p in moved if p not in known], self.state, {}, {**group, "delta": 0.0})
        self._told = {}


def _move(parameters: list[Tensor], states: Mapping[Tensor, Any], told: Mapping[Tensor, Tensor], group: dict) -> None:
    """Move parameters that are all taught, or none of which is, where ``delta`` is 0."""
    if not parameters:
        return
    momentum, delta = group["momentum"], group["delta"]
    gradients: Sequence[Tensor] = [p.grad for p in parameters if p.grad is not None]
    if group["weight_decay"]:
        gradients = torch._foreach_add(tuple(gradients), parameters, alpha=group["weight_decay"])
    whole = [states[p]["momentum_buffer"] for p in parameters]
    taught = [states[p]["distillation_buffer"] for p in parameters] if delta else []
    torch._foreach_mul_(whole, momentum - delta)
    if delta:
        torch._foreach_add_(whole, taught, alpha=2 * delta)
        torch._foreach_mul_(taught, momentum + delta)
        new = [p for p in parameters if p in told]
        if new:
            torch._foreach_add_([states[p]["distillation_buffer"] for p in new], [told[p] for p in new])
    torch._foreach_add_(whole, tuple(gradients))
    step: Sequence[Tensor] = whole
    if group["nesterov"]:
        step = torch._foreach_add(tuple(gradients), whole, alpha=momentum - delta)
        if delta:
            torch._foreach_add_(tuple(step), taught, alpha=2 * delta)
    torch._foreach_add_(parameters, tuple(step), alpha=-group["lr"])
