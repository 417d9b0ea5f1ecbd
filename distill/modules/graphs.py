"""Graphs: a training step that is recorded once and replayed, so that a GPU does not wait for Python.

At batches of 64 a small student's step is some three hundred short kernels, and what Python takes to launch one is
longer than what the kernel takes. A CUDA graph launches them all at once. A replay does to the same memory what the
recording did: whatever Python decides is as it was then, so a step is recorded again where a schedule or a learning
rate moved, and every step that asks for more than the plain one is taken without a recording.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from distill.fit import TrainingFailed
from distill.modules.tally import Seen
from distill.objective import Objective
from distill.outputs import Batch, Mix, Outputs

Recorder = Callable[[Callable[[], None]], Callable[[], None]]
"""Records what a function does to tensors, without doing it yet; returns what does it."""


class Given(NamedTuple):
    """What a step is made from.

    Attributes:
        batch: that the loader made.
        shown: the same with further views behind it.
        views: images of each of them by name.
        told: what the teacher says of ``shown``; None where it is asked inside the step, or not at all.
    """

    batch: Batch
    shown: Batch
    views: dict[str, int]
    told: Outputs | None = None


Step = Callable[[Given], Seen]
"""Takes an optimizer step; returns what the tally counts of it."""


def cuda(work: Callable[[], None]) -> Callable[[], None]:
    """Record a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    # other threads may allocate meanwhile: those of loaders, and students that wait for their turn
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


RECORDERS: dict[str, Recorder] = {"cuda": cuda}
"""How a step is recorded, by the kind of device."""


class NotRecordable(TrainingFailed):
    """A training step cannot be recorded; the message says why and what to do."""


class Graphs:
    """Takes training steps, by a recording where the step is like the last one recorded.

    Args:
        step: takes a step; called with the same tensors again and again while it is recorded.
        device: that trains.

    Attributes:
        recordings: how often a step was recorded.
        replays: how many steps were taken by a recording.
    """

    def __init__(self, step: Step, device: torch.device) -> None:
        self.step, self.record = step, RECORDERS[device.type]
        self.recordings = self.replays = 0
        self._key: Hashable = None
        self._places: list[Tensor] = []
        self._replay: Callable[[], None] | None = None
        self._shown: _Shown | None = None

    def take(self, given: Given, values: Hashable, before: Callable[[], object]) -> Seen:
        """Take a step.

        Args:
            given: what it is made from; copied, so that it may be overwritten.
            values: all that Python decides in it.
            before: called right before it, to seed what it draws.

        Raises:
            NotRecordable: when something in the step needs an answer from the device, or a tensor of the host.
        """
        tensors = _tensors(given)
        key = values, tuple((tuple(t.shape), t.stride(), t.dtype) for t in tensors), tuple(given.views.items())
        if key != self._key:
            self._forget()
            self._make(given, tensors)
            self._key = key
        for place, tensor in zip(self._places, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        before()
        assert self._replay is not None
        assert self._shown is not None
        self._replay()
        self.replays += 1
        return self._shown.copy(given.batch.target)

    def _make(self, given: Given, tensors: list[Tensor]) -> None:
        self._places = [tensor.clone() for tensor in tensors]
        places = iter(self._places)
        fixed = _mapped(given, lambda _: next(places))

        def work() -> None:
            self._shown = _Shown.of(self.step(fixed))

        try:
            self._replay = self.record(work)
        except RuntimeError as error:
            raise NotRecordable(
                f"graph=true: this training step cannot be recorded ({str(error).splitlines()[0]}); set graph=false"
            ) from error
        self.recordings += 1

    def _forget(self) -> None:
        """Give the memory of a recording back before the next one asks for some."""
        self._replay = self._shown = self._key = None
        self._places = []


class _Shown(NamedTuple):
    """What a recorded step shows, at places that the next replay overwrites."""

    step: int
    values: Tensor
    predicted: Tensor
    told: Tensor | None
    credit: Tensor | None

    @classmethod
    def of(cls, seen: Seen) -> _Shown:
        return cls(seen.step, torch.stack(seen.values), seen.predicted, seen.told, seen.credit)

    def copy(self, target: Tensor) -> Seen:
        told, credit = (None if one is None else one.clone() for one in (self.told, self.credit))
        return Seen(self.step, list(self.values.clone().unbind()), self.predicted.clone(), told, target, credit)


def _tensors(given: Given) -> list[Tensor]:
    """Return every tensor of what a step is made from, each once, without those that only the host reads."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _mapped(given, note)
    return found


def _mapped(given: Given, change: Callable[[Tensor], Tensor]) -> Given:
    """Return the same with other tensors, each asked for once, and without the slots, which only the host reads."""
    made: dict[int, Tensor] = {}

    def visit(value: Any) -> Any:
        if isinstance(value, Tensor):
            if id(value) not in made:
                made[id(value)] = change(value)
            return made[id(value)]
        if isinstance(value, Outputs):
            features = {name: visit(feature) for name, feature in value.features.items()}
            return Outputs(visit(value.logits), features, {name: visit(view) for name, view in value.views.items()})
        if isinstance(value, Batch | Mix):
            return type(value)(*map(visit, value))
        return value

    batch, shown = (visit(one._replace(slot=None)) for one in given[:2])
    return Given(batch, shown, given.views, visit(given.told))


def decided(objective: Objective, optimizer: Optimizer, epoch: int) -> Hashable:
    """Return all that Python decides in a step: what schedules say now, and the numbers of the optimizer."""
    moves = bool(objective.schedules or objective.adaptive)
    groups = [
        tuple((k, repr(value)) for k, value in group.items() if k != "params" and not isinstance(value, Tensor))
        for group in optimizer.param_groups
    ]
    return epoch if moves else 0, tuple(objective.weights.items()), tuple(groups)


def make_recordable(optimizer: Optimizer) -> None:
    """Have an optimizer count its steps on the device, where it counts them and knows how.

    Raises:
        NotRecordable: when it keeps a number on the host, which a replay would never change.
    """
    vars(optimizer)["_warned_capturable_if_run_uncaptured"] = True  # steps that ask for more are, and rightly
    for group in optimizer.param_groups:
        on_device = group["params"][0].device.type != "cpu"
        if "capturable" in group and on_device:
            group["capturable"] = True
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.device != parameter.device and "capturable" in group:
                    optimizer.state[parameter][name] = value.to(parameter.device)
                elif isinstance(value, Tensor) and value.device != parameter.device or isinstance(value, int | float):
                    raise NotRecordable(
                        f"graph=true: {type(optimizer).__name__} keeps {name!r} on the host, where a replayed step "
                        "cannot change it; take another optimizer or graph=false"
                    )


def refused(cfg: Mapping[str, Any], objective: Objective, optimizer: object) -> str | None:
    """Return a sentence where the steps of a training cannot be recorded; None where nothing speaks against it.

    Args:
        cfg: resolved config.
        objective: its terms.
        optimizer: what the config makes one from.
    """
    trainer = cfg["trainer"]
    on_gpu = trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if ("cuda" if on_gpu else "cpu") not in RECORDERS:
        return "graph=true: records steps of a CUDA device, and this training has none; set graph=false"
    if trainer.get("devices") not in (1, "1") or trainer.get("num_nodes", 1) > 1:
        return f"trainer.devices={trainer.get('devices')}: graph=true records steps of one device; set graph=false"
    if trainer.get("precision") in (16, "16", "16-mixed"):
        return (
            f"trainer.precision={trainer['precision']}: the scale of the loss is decided by the host after each step, "
            "which graph=true leaves out; take bf16-mixed or 32"
        )
    if (trainer.get("accumulate_grad_batches") or 1) > 1:
        return "trainer.accumulate_grad_batches: graph=true records steps of one batch; set it to 1, or graph=false"
    if cfg["compile"]:
        return "compile=true: a compiled student is not recorded; take compile=true or graph=true"
    if cfg["control"] != "none":
        return f"control={cfg['control']}: the host draws it in each step, and graph=true does not; set graph=false"
    if cfg["schedule_interval"] == "step" and (objective.schedules or objective.adaptive):
        name = next(iter([*objective.schedules, *objective.adaptive]))
        return (
            f"schedule_interval=step: {name} moves with every step, and graph=true would record each of them; "
            "take schedule_interval=epoch or graph=false"
        )
    made = getattr(optimizer, "func", optimizer)
    if hasattr(made, "take_distillation"):
        name = getattr(made, "__name__", type(made).__name__)
        return f"optimizer: {name} takes gradients apart, and graph=true does not; set graph=false"
    for name, loss in objective.losses.items():
        if not loss.recordable:
            return f"loss.{name}: decides on the host what it computes, so its steps are not replayed; set graph=false"
    return None
