"""Steps: what an optimizer step of a training is, from a batch to new weights; taken by itself or by a recording."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from distill.modules.apart import Apart, Asks
from distill.modules.controls import controlled
from distill.modules.graphs import Given, Graphs, decided, make_recordable
from distill.modules.tally import Seen, seen
from distill.outputs import Batch, Outputs

if TYPE_CHECKING:
    from distill.modules.base import DistillationModule

_AS_IS: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


class Steps:
    """Takes the steps of a module that Lightning trains.

    Args:
        module: with its trainer and the optimizer.
        log_every: steps between two whose gradient norm is measured.

    Attributes:
        graphs: what replays plain steps; None where each is taken by itself.
    """

    def __init__(self, module: DistillationModule, log_every: int) -> None:
        self.module, self.log_every = module, log_every
        self.objective, self.device, self.accumulate = module.objective, module.device, module.accumulate
        self.optimizer = optimizer = module.trainer.optimizers[0]
        self.apart: Apart | None = None
        if isinstance(optimizer, Asks) and self.objective.splits:
            self.apart = Apart(optimizer, module.student)
        self.graphs = Graphs(self._whole, self.device) if module.graph else None
        self._full = 0

    def ends(self, number: int, total: int) -> bool:
        """Whether a batch of an epoch is the last of its optimizer step."""
        return (number + 1) % self.accumulate == 0 or number + 1 == total

    def take(self, batch: Batch, step: int, number: int, total: int) -> Seen:
        """Learn from a batch, and move the weights where it is the last of its step.

        Args:
            batch: on the device.
            step: optimizer steps before it.
            number: of the batch in the epoch.
            total: batches of the epoch.
        """
        seed = self._reseed(step, number)
        given = Given(batch, *self.objective.expand(batch))
        if self._replayable(batch, number):
            return self._replayed(given, step, number)
        last = self.ends(number, total)
        learned = self._learn(given, step, last, seed, number == 0 and self.module.term_gradients)
        if last:
            self._update(number - number % self.accumulate)
        return learned

    def _reseed(self, step: int, number: int) -> int:
        # what dropout draws depends on the step alone, so that a resumed run draws it again; the generators
        # themselves, because torch.manual_seed takes 180 us to visit every kind of device
        seed = (self.module.seed + 1) * 1_000_003 + step * 4099 + number * 127 + self.module.global_rank
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.default_generators[self.device.index or 0].manual_seed(seed)
        return seed

    def _replayable(self, batch: Batch, number: int) -> bool:
        """Whether a step is a plain one of a full batch, after one that was taken by itself."""
        if self.graphs is None:
            return False
        known, self._full = self._full, max(self._full, len(batch.target))
        return len(batch.target) == known and number % self.log_every != 0

    def _replayed(self, given: Given, step: int, number: int) -> Seen:
        assert self.graphs is not None
        if not self.graphs.recordings:
            make_recordable(self.optimizer)
        if self.objective.reads_teacher and not self.module.teaches_on_device:
            given = given._replace(told=self._told(given))
        values = decided(self.objective, self.optimizer, self.module.current_epoch)
        return self.graphs.take(given, values, lambda: self._reseed(step, number))._replace(step=step)

    def _whole(self, given: Given) -> Seen:
        """Take a plain step, whose number and seed are told from outside."""
        learned = self._learn(given, 0, True, 0, False)
        self._move()
        return learned

    def _learn(self, given: Given, step: int, last: bool, seed: int, measured: bool) -> Seen:
        """Add the gradient of one batch."""
        module = self.module
        student = module.student(given.shown.inputs, given.shown.text)
        student = student.divided(given.views) if given.views else student
        said = given.told
        if said is None and self.objective.reads_teacher:
            said = self._told(given)
        teacher = said
        if said is not None and module.control != "none":
            teacher = controlled(said, module.control, seed ^ 0x5DEECE66)  # not the stream that dropout draws from
        parts: dict[str, Tensor] | None = {} if measured or self.apart is not None else None
        total, terms = self.objective(student, teacher, given.batch, parts)
        loss = total / self.accumulate if self.accumulate > 1 else total
        kind = self.device.type
        # gradients in the precision of the forward pass, not in what autocast would make of the backward one
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else _AS_IS:
            if parts and measured:
                module.pulls.measure(parts, module.student, self._scaler)
            if parts and self.apart is not None and self.objective.reads_teacher:
                self.apart.add(self.objective.taught(parts) / self.accumulate)
            if loss.requires_grad:  # else every term has weight 0 for now
                self._backward(loss, last)
        return seen(step, [*terms, total.detach()], student, said, given.batch)

    def _backward(self, loss: Tensor, last: bool) -> None:
        strategy = self.module.trainer.strategy
        if self.module.trainer.world_size == 1 and self._scaler is None:
            loss.backward()
        elif last or not isinstance(strategy, DDPStrategy):
            self.module.manual_backward(loss)
        else:
            with strategy.block_backward_sync():
                self.module.manual_backward(loss)

    def _told(self, given: Given) -> Outputs | None:
        """Return what the teacher says of a batch, and of the further views that a term looks at."""
        teacher = self.module.teach(given.shown)
        return teacher.divided(given.views) if given.views and teacher is not None else teacher

    @property
    def _scaler(self) -> Any:
        """What scales losses in half precision; None in any other."""
        return getattr(self.module.trainer.precision_plugin, "scaler", None)

    def _update(self, first: int) -> None:
        """Take the optimizer step whose first batch is number ``first`` of the epoch."""
        scaler = self._scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if -first % self.log_every < self.accumulate:
            self.module.tally.norm(self.module.parameters())
        self._move()

    def _move(self) -> None:
        """Move the weights by the gradients that there are, and forget those."""
        module, scaler = self.module, self._scaler
        norm = None if module.clip is None else module.clipper(module.parameters(), module.clip)
        if self.apart is not None:
            self.apart.hand_over(module.trainer.strategy, norm, module.clip)
        if scaler is not None:
            scaler.step(self.optimizer)
            scaler.update()
        else:
            self.optimizer.step()
        for group in self.optimizer.param_groups:  # what zero_grad does, in a tenth of the time
            for parameter in group["params"]:
                parameter.grad = None
        if torch.is_autocast_enabled(self.device.type):
            torch.clear_autocast_cache()  # of casts of the weights as they were
