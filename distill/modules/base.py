"""DistillationModule: the training step, the metrics and the checkpoint of every kind of distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from distill.objective import Objective
from distill.outputs import Batch, Outputs
from distill.schedules.base import Progress
from distill.taps import Tapped

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class DivergenceError(RuntimeError):
    """A term of the objective became NaN or infinite; the message names the term and the step."""


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

    Attributes:
        history: one dict of plain numbers an epoch; part of the checkpoint.
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
    ) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.optimizer_factory = optimizer
        self.lr_scheduler_factory = lr_scheduler
        self.eval_names = list(eval_names)
        self.seed = seed
        self.schedule_interval = schedule_interval
        self.history: list[dict[str, float]] = []
        self.seconds = 0.0
        self.provenance: dict[str, Any] = {}
        # Plain tensors, not buffers, which weight averaging would average and swap: the sum of each term; then of
        # loss, correct, agreeing with the teacher, seen by it, samples, gradient norms, their number
        self.sums = torch.zeros(len(objective.names) + 7, dtype=torch.float64)
        self.first_bad = torch.full((len(objective.names) + 1,), -1)
        self._eval: dict[str, Tensor] = {}
        self._row: dict[str, float] = {}
        self._started = perf_counter()
        self._norm_due = False
        self._log_every = 1
        self._lr = 0.0

    def teach(self, batch: Batch) -> Outputs | None:
        """Return the teacher's outputs for a batch; None where there is no teacher."""
        return None

    # -- optimisation ---------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Optimise the student and the connectors of the objective."""
        optimizer = self.optimizer_factory([p for p in self.parameters() if p.requires_grad])
        if self.lr_scheduler_factory is None:
            return optimizer
        return [optimizer], [{"scheduler": self.lr_scheduler_factory(optimizer), "interval": "epoch"}]

    def on_fit_start(self) -> None:
        self.sums, self.first_bad = self.sums.to(self.device), self.first_bad.to(self.device)

    def on_train_start(self) -> None:
        self._started = perf_counter() - self.seconds
        self._log_every = max(int(vars(self.trainer)["log_every_n_steps"]), 1)
        self.on_train_epoch_start()  # Lightning leaves it out where it goes on inside an epoch

    def on_train_epoch_start(self) -> None:
        if self.schedule_interval == "epoch":
            last = max((self.trainer.max_epochs or 1) - 1, 1)
            self._set_progress(self.current_epoch / last)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        torch.manual_seed((self.seed + 1) * 1_000_003 + self.global_step * 4099 + batch_idx * 127 + self.global_rank)
        self._lr = float(self.trainer.optimizers[0].param_groups[0]["lr"])
        self._norm_due |= batch_idx % self._log_every == 0
        if self.schedule_interval == "step":
            self._set_progress(self.global_step / max(int(self.trainer.estimated_stepping_batches) - 1, 1))

    def _set_progress(self, fraction: float) -> None:
        epochs = self.trainer.max_epochs or 1
        self.objective.set_progress(Progress(min(fraction, 1.0), self.current_epoch + 1, epochs))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted total of the objective, a scalar."""
        student = self.student(batch.inputs)
        teacher = self.teach(batch) if self.objective.reads_teacher else None
        total, terms = self.objective(student, teacher, batch)
        self._count(student, teacher, batch, total.detach(), terms)
        return total

    @torch.no_grad()
    def _count(self, student: Outputs, teacher: Outputs | None, batch: Batch, total: Tensor, terms: Tensor) -> None:
        size = len(batch.target)
        values = torch.cat([terms, total[None]])
        predicted = student.logits.argmax(1)
        correct = (predicted == batch.target).sum()
        zero = torch.zeros_like(correct)
        agree = zero if teacher is None else (predicted == teacher.logits.argmax(1)).sum()
        seen = zero if teacher is None else zero + size
        counts = torch.stack([correct, agree, seen, zero + size])
        self.sums[: len(values) + 4] += torch.cat([values.double() * size, counts.double()])
        fine = values.isfinite() | (self.first_bad >= 0)
        self.first_bad.copy_(torch.where(fine, self.first_bad, self.global_step))
        every = 1 if self.device.type == "cpu" else self._log_every
        if self.global_step % every == 0:
            self.raise_if_diverged()

    def raise_if_diverged(self) -> None:
        """Stop a run whose loss is no longer a number.

        Raises:
            DivergenceError: names the term that was first NaN or infinite, and the step.
        """
        steps = self.first_bad.tolist()
        bad = [(step, name) for step, name in zip(steps, [*self.objective.names, "total"], strict=True) if step >= 0]
        if bad:
            step, name = min(bad, key=lambda b: (b[0], b[1] == "total"))
            raise DivergenceError(f"loss/{name} is not finite at step {step} (epoch {self.current_epoch + 1})")

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self._norm_due:
            self._norm_due = False
            gradients = [p.grad for p in self.parameters() if p.grad is not None]
            self.sums[-2] += torch.nn.utils.get_total_norm(gradients)
            self.sums[-1] += 1

    def on_train_epoch_end(self) -> None:
        self.raise_if_diverged()
        sums = self.trainer.strategy.reduce(self.sums.clone(), reduce_op="sum")
        assert isinstance(sums, Tensor)
        *terms, total, correct, agree, seen, count, norm, norms = sums.tolist()
        row = {f"loss/{k}": v / count for k, v in zip(self.objective.names, terms, strict=True)}
        row |= {"train/loss": total / count, "train/accuracy": 100 * correct / count}
        if seen:
            row["train/agreement"] = 100 * agree / seen
        if norms:
            row["train/grad_norm"] = norm / norms
        row |= {f"schedule/{k}": v for k, v in self.objective.values.items()}
        row["lr"] = self._lr
        row |= self._row
        self.log_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in row.items() if k not in self._row})
        self.seconds = perf_counter() - self._started
        self.history.append({"epoch": self.current_epoch + 1, "step": self.global_step, "seconds": self.seconds, **row})
        self.sums.zero_()
        self._row = {}

    # -- evaluation -----------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self._eval = {name: torch.zeros(3, dtype=torch.float64, device=self.device) for name in self.eval_names}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Count correct answers and the negative log-likelihood of one split."""
        logits = self.student(batch.inputs).logits.float()
        correct = (logits.argmax(1) == batch.target).sum()
        nll = F.cross_entropy(logits, batch.target, reduction="sum")
        size = torch.full_like(nll, len(batch.target))
        self._eval[self.eval_names[dataloader_idx]] += torch.stack([correct, nll, size]).double()

    def on_validation_epoch_end(self) -> None:
        for name, counts in self._eval.items():
            sums = self.trainer.strategy.reduce(counts, reduce_op="sum")
            assert isinstance(sums, Tensor)
            correct, nll, size = sums.tolist()
            self._row |= {f"{name}/accuracy": 100 * correct / size, f"{name}/nll": nll / size}
        self.log_dict({k: torch.tensor(v, dtype=torch.float32) for k, v in self._row.items()})

    # -- checkpoint -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.raise_if_diverged()
        checkpoint["distill"] = {
            **self.provenance,
            "history": self.history,
            "seconds": perf_counter() - self._started,
            "sums": self.sums.cpu(),
            "lr": self._lr,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        kept = checkpoint["distill"]
        self.history = list(kept["history"])
        self.seconds = float(kept["seconds"])
        self._lr = float(kept["lr"])
        self.sums = kept["sums"].to(self.device)
