"""DistillationModule: the training step, the metrics and the checkpoint of every kind of distillation.

Lightning calls ``training_step`` with several batches at once and the optimizer is stepped in here, because what
happens around each call costs 0.3 to 2 ms (measured in experiments/performance), a small student's step less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter, process_time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from distill.data.loader import Chunk
from distill.heap import keep_freed
from distill.modules.pulls import Pulls
from distill.modules.steps import Steps
from distill.modules.tally import MARKS, Seen, Tally, mark, marks
from distill.objective import Objective
from distill.outputs import Batch, Outputs
from distill.schedules.base import Progress
from distill.taps import Tapped

CLIPPERS: dict[str, Callable[..., Any]] = {
    "norm": torch.nn.utils.clip_grad_norm_, "value": torch.nn.utils.clip_grad_value_,
}  # fmt: skip
"""Ways to clip gradients, by the names that Lightning gives them."""

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class DivergenceError(RuntimeError):
    """A term of the objective became NaN or infinite; the message names the term and the step."""


def start_momentum(optimizer: torch.optim.SGD) -> None:
    """Give every parameter of a fused SGD its momentum, 0, from which the first step comes out as from none.

    A term that sets in later brings parameters without one, and fused SGD fails where only some have it.
    """
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"] and not group["dampening"]:
            for parameter in group["params"]:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class DistillationModule(pl.LightningModule):
    """Trains a student on an objective; by itself without a teacher, in subclasses with one or several.

    A subclass overrides :meth:`teach` only. Sums are kept on the device and read once an epoch, so that the step
    never waits for the device; connectors are part of the objective and train with the student.

    Args:
        student: the network that learns.
        objective: named terms with weights and schedules.
        optimizer: makes the optimizer from the parameters.
        lr_scheduler: makes the learning-rate scheduler from the optimizer, stepped once an epoch; None for none.
        eval_names: name of each evaluation loader in order, such as ``["val", "test"]``.
        seed: with the step number it seeds dropout and its kind, so a resumed run draws what an unbroken one does.
        schedule_interval: ``"epoch"`` or ``"step"``: how often schedules move.
        accumulate: batches whose gradients are averaged into one optimizer step.
        clip: largest gradient norm, or value; None for any.
        clip_algorithm: ``"norm"`` or ``"value"``.
        control: what the student is told instead of the teacher's outputs, see :mod:`distill.modules.controls`, or
            ``"none"``; agreement is with what the teacher said all the same.
        term_gradients: measure the gradient norm of each weighted term on the first batch of an epoch.
        graph: record plain steps and replay them, see :mod:`distill.modules.graphs`.

    Attributes:
        history: one dict of plain numbers an epoch; part of the checkpoint.
        steps: takes the optimizer steps, from the start of training on.
    """

    def __init__(
        self,
        student: Tapped,
        objective: Objective,
        optimizer: OptimizerFactory,
        lr_scheduler: SchedulerFactory | None,
        eval_names: Sequence[str],
        seed: int,
        schedule_interval: str = "epoch",
        accumulate: int = 1,
        clip: float | None = None,
        clip_algorithm: str = "norm",
        control: str = "none",
        term_gradients: bool = False,
        graph: bool = False,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.student = student
        self.objective = objective
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.eval_names = list(eval_names)
        self.seed = seed
        self.schedule_interval = schedule_interval
        self.accumulate, self.clip, self.clipper = accumulate, clip, CLIPPERS[clip_algorithm]
        self.control, self.term_gradients, self.graph = control, term_gradients, graph
        self.steps: Steps | None = None
        self.history: list[dict[str, float]] = []
        self.seconds = self.cpu_seconds = 0.0
        self.provenance: dict[str, Any] = {}
        self.tally = Tally(objective.names)
        self.pulls = Pulls(objective.names)
        self._eval: dict[str, Tensor] = {}
        self._row: dict[str, float] = {}
        self._started, self._cpu = perf_counter(), process_time()
        self._log_every = 1

    @property
    def teaches_on_device(self) -> bool:
        """Whether :meth:`teach` is arithmetic on the device and nothing else, so that a recorded step can ask it."""
        return False

    def prefetch(self, batches: Sequence[Batch]) -> None:
        """Let teachers look several batches up at once, before :meth:`teach` is called with each."""

    def teach(self, batch: Batch) -> Outputs | None:
        """Return the teacher's outputs for a batch; None where there is no teacher."""
        return None

    # -- optimisation ---------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Optimise the student and the connectors of the objective."""
        optimizer = self.optimizer_factory([p for p in self.parameters() if p.requires_grad])
        if isinstance(optimizer, torch.optim.SGD):
            start_momentum(optimizer)
        if self.lr_scheduler_factory is None:
            return optimizer
        return [optimizer], [{"scheduler": self.lr_scheduler_factory(optimizer), "interval": "epoch"}]

    def on_fit_start(self) -> None:
        if self.device.type == "cpu":
            keep_freed()
        self.tally.to(self.device)
        self.pulls.sums = self.pulls.sums.to(self.device)

    def on_train_start(self) -> None:
        self._started, self._cpu = perf_counter() - self.seconds, process_time() - self.cpu_seconds
        self._log_every = max(int(vars(self.trainer)["log_every_n_steps"]), 1)
        self.steps = Steps(self, self._log_every)
        self.on_train_epoch_start()  # Lightning leaves it out where it goes on inside an epoch

    def on_train_epoch_start(self) -> None:
        if self.schedule_interval == "epoch":
            last = max((self.trainer.max_epochs or 1) - 1, 1)
            self._set_progress(self.current_epoch / last)

    def _set_progress(self, fraction: float) -> None:
        epochs = self.trainer.max_epochs or 1
        self.objective.set_progress(Progress(min(fraction, 1.0), self.current_epoch + 1, epochs))

    def training_step(self, chunk: Chunk, _: int) -> None:
        """Take an optimizer step for each batch of a chunk, or for every ``accumulate`` batches."""
        if self.objective.reads_teacher:
            self.prefetch(chunk.batches)
        assert self.steps is not None
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        begun = done = progress.total.completed
        limit = self.trainer.max_steps
        learned: list[Seen] = []
        for number, batch in enumerate(chunk.batches, chunk.first):
            if done == limit:
                break
            if self.schedule_interval == "step":
                steps = -(-chunk.total // self.accumulate) * (self.trainer.max_epochs or 1)
                self._set_progress(done / max((steps if limit < 0 else min(steps, limit)) - 1, 1))
            learned.append(self.steps.take(batch, done, number, chunk.total))
            done += self.steps.ends(number, chunk.total)
        for _ in range(done - begun):  # Lightning counts the steps of its own wrapper only
            progress.increment_ready()
            progress.increment_completed()
        self.tally.add(learned)
        if self.device.type == "cpu" or chunk.first // self._log_every % 10 == 0:
            self.raise_if_diverged()

    def waited(self, seconds: float, cpu_seconds: float) -> None:
        """Leave out of the record a time in which this training did nothing, and what others computed in it."""
        self._started += seconds
        self._cpu += cpu_seconds

    def raise_if_diverged(self) -> None:
        """Stop a run whose loss is no longer a number.

        Raises:
            DivergenceError: names the term that was first NaN or infinite, and the step.
        """
        bad = self.tally.diverged()
        if bad is not None:
            raise DivergenceError(f"loss/{bad[0]} is not finite at step {bad[1]} (epoch {self.current_epoch + 1})")

    def on_train_epoch_end(self) -> None:
        self.raise_if_diverged()
        row = self.tally.take(self.trainer.strategy)
        row |= self.pulls.take(self.trainer.strategy) if self.term_gradients else {}
        row |= {f"schedule/{k}": v for k, v in self.objective.values.items()}
        for key, temperature in self.objective.adaptive.items():
            tally = self.trainer.strategy.reduce(temperature.tally.to(self.device, copy=True), reduce_op="sum")
            assert isinstance(tally, Tensor)
            value, samples = tally.tolist()
            if samples:
                row[f"schedule/{key}"] = value / samples
            temperature.tally.zero_()
        row["lr"] = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        row |= self._row
        self.log_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in row.items() if k not in self._row})
        self.seconds, self.cpu_seconds = perf_counter() - self._started, process_time() - self._cpu
        self.history.append({"epoch": self.current_epoch + 1, "step": self.global_step, "seconds": self.seconds, **row})
        self._row = {}
        for found in self.trainer.lr_scheduler_configs:
            scheduler = found.scheduler
            assert isinstance(scheduler, LRScheduler)
            scheduler.step()

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._eval = {name: torch.zeros(MARKS, dtype=torch.float64, device=self.device) for name in self.eval_names}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count correct answers, the negative log-likelihood, and looks at what was asked about, of one split."""
        student = self.student(batch.inputs, batch.text)
        self._eval[self.eval_names[dataloader_idx]] += marks(student, batch)
        self.looked(student, batch, batch_idx, dataloader_idx)

    def looked(self, student: Outputs, batch: Batch, batch_idx: int, dataloader_idx: int) -> None:
        """See what the student says of an evaluation batch, beside what is counted of it anyway."""

    def outcome(self) -> dict[str, Any]:
        """Return what the record of a finished training says beside the history; nothing for most."""
        return {}

    def on_validation_epoch_end(self) -> None:
        for name, counts in self._eval.items():
            sums = self.trainer.strategy.reduce(counts, reduce_op="sum")
            assert isinstance(sums, Tensor)
            self._row |= mark(name, sums)
        self.log_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in self._row.items()})

    # -- checkpoint -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.raise_if_diverged()
        checkpoint["distill"] = {
            **self.provenance,
            "history": self.history,
            "seconds": perf_counter() - self._started,
            "cpu_seconds": process_time() - self._cpu,
            "sums": self.tally.sums.cpu(),
            "pulls": self.pulls.sums.cpu(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["distill"]
        self.history = list(kept["history"])
        self.seconds, self.cpu_seconds = float(kept["seconds"]), float(kept.get("cpu_seconds", 0.0))
        self.tally.sums = kept["sums"].to(self.device)
        self.pulls.sums = kept.get("pulls", self.pulls.sums).to(self.device)  # older checkpoints have none
