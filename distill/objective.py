"""The objective: ordered named terms, each a loss times a weight; a term of weight 0 is skipped, every one reported."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from distill.grafts import Wish
from distill.losses.base import Loss
from distill.outputs import Batch, Outputs, Specs, TrainingSet
from distill.schedules.adaptive import Adaptive
from distill.schedules.base import Progress, Schedule


class Objective(nn.Module):
    """Weighted sum of named losses.

    Args:
        losses: loss by name, in the order of the report.
        weights: weight by the same names; a number or a schedule.

    Attributes:
        values: current value of every schedule, by ``term.parameter`` (``kd.temperature``, ``kd.weight``).
        adaptive: temperatures that are computed in every step, by the same names.
    """

    def __init__(self, losses: Mapping[str, Loss], weights: Mapping[str, float | Schedule]) -> None:
        super().__init__()
        self.losses = nn.ModuleDict(losses)
        self._by_name = dict(losses)  # which is quicker to ask in every step
        self.weights: dict[str, float] = {k: 0.0 if isinstance(w, Schedule) else float(w) for k, w in weights.items()}
        self.schedules: dict[str, Schedule] = {}
        self.adaptive: dict[str, Adaptive] = {}
        for name, loss in losses.items():
            if isinstance(weight := weights[name], Schedule):
                self.schedules[f"{name}.weight"] = weight
            for path, part in loss.named_modules(prefix=name):  # a loss may wrap another
                self.schedules |= {f"{path}.{k}": v for k, v in vars(part).items() if isinstance(v, Schedule)}
                if isinstance(part, Adaptive):
                    self.adaptive[path] = part
        self._views = {name: loss.views() for name, loss in losses.items() if loss.views()}
        self.values: dict[str, float] = {}
        self.set_progress(Progress(0.0))

    @property
    def names(self) -> list[str]:
        """Names of the terms in order."""
        return list(self.losses)

    @property
    def reads_teacher(self) -> bool:
        """Whether any term that reads the teacher has a weight now."""
        return any(w and self._loss(k).reads_teacher for k, w in self.weights.items())

    @property
    def student_taps(self) -> list[str]:
        """Student taps that any term reads."""
        return list(dict.fromkeys(tap for taps in self.student_taps_by_term.values() for tap in taps))

    @property
    def student_taps_by_term(self) -> dict[str, tuple[str, ...]]:
        """Student taps that each term reads, by its name."""
        return {name: self._loss(name).student_taps() for name in self.losses}

    @property
    def teacher_taps(self) -> list[str]:
        """Teacher taps that any term reads."""
        return list(dict.fromkeys(t for name in self.losses for t in self._loss(name).teacher_taps()))

    def expand(self, batch: Batch) -> tuple[Batch, dict[str, int]]:
        """Return the batch with the images of further views behind its own, and how many each view has, by name."""
        found: dict[str, Tensor] = {}
        for name, looks in self._views.items():
            if self.weights[name]:
                found |= {key: make(batch) for key, make in looks.items() if key not in found}
        if not found:
            return batch, {}
        inputs = torch.cat([batch.inputs, *found.values()])
        text = None if batch.text is None else batch.text.repeat(len(inputs) // len(batch.text))
        return batch._replace(inputs=inputs, text=text), {key: len(images) for key, images in found.items()}

    @property
    def wishes(self) -> dict[str, Wish]:
        """What terms want grafted on the student, by their names."""
        asked = {name: self._loss(name).grafts() for name in self.losses}
        return {name: wish for name, wish in asked.items() if wish is not None}

    @property
    def viewers(self) -> list[str]:
        """Names of the terms that look at further views."""
        return list(self._views)

    def _loss(self, name: str) -> Loss:
        return self._by_name[name]

    def set_progress(self, progress: Progress) -> None:
        """Give every scheduled parameter its value at ``progress``."""
        for key, schedule in self.schedules.items():
            path, parameter = key.rsplit(".", 1)
            value = self.values[key] = schedule(progress)
            if parameter == "weight" and path in self.weights:
                self.weights[path] = value
            else:
                setattr(self.losses.get_submodule(path), parameter, value)
        for part in self.adaptive.values():
            part.set_progress(progress)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        """Build every connector.

        Raises:
            ValueError: when a loss cannot connect its taps; names the term.
        """
        for name in self.losses:
            try:
                self._loss(name).prepare(student, teacher)
            except ValueError as error:
                raise ValueError(f"loss.{name}: {error}") from error

        if self.adaptive:
            classes = student["logits"].shape[-1]
            for part in self.adaptive.values():
                part.prepare(classes)

    def meet(self, data: TrainingSet) -> None:
        """Tell every loss what is trained on.

        Raises:
            ValueError: when a loss cannot work with it; names the term.
        """
        for name in self.losses:
            try:
                self._loss(name).meet(data)
            except ValueError as error:
                raise ValueError(f"loss.{name}: {error}") from error

    @property
    def splits(self) -> bool:
        """Whether some terms read the teacher and others do not, whatever their weights are now."""
        return len({self._loss(name).reads_teacher for name in self.losses}) == 2

    def taught(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the sum of those weighted terms that read the teacher, as :meth:`forward` fills them in."""
        return torch.stack([value for name, value in parts.items() if self._loss(name).reads_teacher]).sum()

    def forward(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, parts: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the total and the unweighted value of each term in order, detached; 0 for one that is skipped.

        Args:
            student: what the student says of the batch.
            teacher: what the teacher says of it, where a term reads it.
            batch: what both say it of.
            parts: filled with each computed term times its weight, whose sum is the total.
        """
        total: Tensor | None = None
        values: dict[str, Tensor] = {}
        for name, weight in self.weights.items():
            if weight:
                value = self._loss(name)(student, teacher, batch)
                values[name] = value.detach()
                weighted = value if weight == 1 else weight * value
                if parts is not None:
                    parts[name] = weighted
                total = weighted if total is None else total + weighted
        if total is None or len(values) < len(self.weights):
            zero = student.logits.new_zeros((), dtype=torch.float32)
            total = zero if total is None else total
            values = {name: values.get(name, zero) for name in self.weights}
        return total, list(values.values())
