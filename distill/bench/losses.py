"""bench losses: what every loss costs beside kd, on random outputs of the shapes of resnet32x4 and resnet8x4."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from distill.bench.loops import clock
from distill.bench.measured import Measured, alternate
from distill.bench.tensors import peak_of_tensors
from distill.bench.work import CIFAR, prepare

if TYPE_CHECKING:
    import torch

    from distill.outputs import Batch, Outputs, Specs

SIZES = (64, 256, 1024)
"""Samples of a batch."""
SAMPLES = 50_000
"""Samples of the training set that a loss with a memory of every sample is told of."""
BASE = "kd"
PAIR = [*CIFAR, "pair=resnet32x4_resnet8x4", "dataset=synthetic", "scheduler=constant_temperature"]
CHOICE = "loss="
WIDE = 34
"""Characters of a column."""
MIB = 2**20
ENOUGH = 0.5
"""Seconds of a side in a round after which it is not repeated."""


@dataclass
class Costs(Measured):
    """Times by loss and batch, shown as a table with the memory beside them."""

    def show(self) -> None:
        """Print a line for each loss: time, memory and factor over kd, by batch."""
        count = len(next(iter(self.rounds.values())))
        print(f"{self.title}; {count} rounds, alternating; median {self.unit} (x kd, MiB at the peak)")
        sizes = sorted({int(side.rpartition(" ")[2]) for side in self.memory})
        print("  " + " " * 16 + "".join(f"{f'batch {size}':>{WIDE}}" for size in sizes))
        for loss in dict.fromkeys(side.partition(",")[0] for side in self.memory):
            cells = "".join(f"{self._cell(side_of(loss, size)):>{WIDE}}" for size in sizes)
            print(f"  {loss:<16}{cells}")
        for note in self.notes:
            print(f"  {note}")

    def _cell(self, side: str) -> str:
        if side not in self.memory:
            return "-"
        middle = statistics.median(self.rounds[side])
        factor = statistics.median(self.quotients(side, beside(side)))
        return f"{middle:.3f} ({factor:.1f}, {self.memory[side]:.1f})"


def side_of(loss: str, size: int) -> str:
    """Return what a loss is called in a record, with a batch."""
    return f"{loss}, batch {size}"


def beside(side: str) -> str:
    """Return what kd is called in a record where it alternates with a side."""
    return side if side.startswith(f"{BASE}, ") else f"{BASE} beside {side}"


def names(overrides: Sequence[str] = ()) -> list[str]:
    """Return kd and the losses that overrides choose (``loss=[mlkd,rkd]``); without a choice all of the group."""
    from distill.places import CONF

    chosen = [o.removeprefix(CHOICE).strip("[] ") for o in overrides if o.startswith(CHOICE)]
    group = chosen[-1].replace(" ", "").split(",") if chosen else [path.stem for path in (CONF / "loss").glob("*.yaml")]
    return sorted({*group, BASE}, key=lambda name: (name != BASE, name))


def of_one(name: str, overrides: Sequence[str]) -> list[str]:
    """Return those overrides that the config with only one loss understands."""
    return [o for o in overrides if not o.startswith((CHOICE, "loss.")) or o.startswith(f"loss.{name}.")]


def measure(options: argparse.Namespace) -> Measured:
    """Time value and gradient of every loss in ``conf/loss``, as its yaml sets it; milliseconds a step.

    Networks and optimizer are not in it. A loss that cannot be made for the pair, or is not one of such outputs alone,
    is named with the reason.
    """
    import torch

    prepare(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    steps = options.steps or 20
    base = dict(_steps(BASE, options.overrides, device))
    rounds: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    notes = []
    for name in names(options.overrides):
        try:
            # one loss and batch after another: all at once would need the memory of all
            for size, step in _steps(name, options.overrides, device):
                step()  # a loss that fails does so here
                side = side_of(name, size)
                memory[side] = _peak(step, device)
                both = {side: step, beside(side): base[size]}
                rounds |= alternate({k: partial(_time, run, steps, device) for k, run in both.items()}, options.rounds)
        except (ValueError, KeyError) as error:
            notes.append(f"left out: {name}: {' '.join(str(error).split())}")
    ratios: list[tuple[str, str, str, float | None]] = [
        (f"{side} / {BASE}", side, beside(side), None) for side in memory
    ]
    threads = f"{torch.get_num_threads()} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return Costs(f"losses: value and gradient on {threads}", "ms a step", rounds, ratios, notes, memory)


def _steps(name: str, overrides: list[str], device: torch.device) -> Iterator[tuple[int, Callable[[], None]]]:
    """Give a step of one loss for every size of batch; ValueError where the loss cannot be made for these networks."""
    for size in SIZES:
        yield size, _step(name, size, overrides, device)


def _step(name: str, size: int, overrides: list[str], device: torch.device) -> Callable[[], None]:
    import torch

    from distill.assemble import input_spec, make_network, make_objective
    from distill.config import compose, resolved
    from distill.outputs import TrainingSet
    from distill.taps import Tapped

    cfg = resolved(compose([*PAIR, f"dataset.batch_size={size}", f"{CHOICE}[{name}]", *of_one(name, overrides)]))
    data = cfg["dataset"]
    torch.manual_seed(0)
    objective = make_objective(cfg["loss"])
    nodes = [(cfg["student"], "student", objective.student_taps)]
    nodes += [(node["network"], f"teacher.{k}", objective.teacher_taps) for k, node in list(cfg["teacher"].items())[:1]]
    specs = []
    for node, key, taps in nodes:
        network = make_network(node, key, None)
        tapped = Tapped(network, input_spec(network, data["mean"], data["std"]), taps)
        specs.append(tapped.specs((data["channels"], *data["image_size"])))
    objective.prepare(specs[0], specs[1])
    objective.meet(TrainingSet(torch.arange(SAMPLES) % data["num_classes"], data["num_classes"]))
    loss = objective.losses[name].to(device)
    batch = _batch(size, data, device)
    seen, views = objective.expand(batch)
    student, teacher = (_outputs(spec, len(seen.inputs), device) for spec in specs)
    leaves = [*_tensors(student), *(p for p in loss.parameters() if p.requires_grad)]

    def step() -> None:
        for leaf in leaves:
            leaf.requires_grad_().grad = None
        loss(student.divided(views), teacher.divided(views), batch).backward()

    return step


def _tensors(outputs: Outputs) -> list[torch.Tensor]:
    return [outputs.logits, *outputs.features.values()]


def _outputs(specs: Specs, size: int, device: torch.device) -> Outputs:
    import torch

    from distill.outputs import Outputs

    made = {name: torch.randn(size, *spec.shape, device=device) for name, spec in specs.items()}
    return Outputs(made.pop("logits"), made)


def _batch(size: int, data: dict, device: torch.device) -> Batch:
    import torch

    from distill.outputs import Batch

    index = torch.arange(size)
    pixels = torch.zeros(size, data["channels"], *data["image_size"], dtype=torch.uint8)
    return Batch(pixels, index % data["num_classes"], index, 0 * index).to(device)


def _time(step: Callable[[], None], steps: int, device: torch.device) -> float:
    """Return milliseconds a step, the median of at most ``steps``; what takes long is not repeated as often."""
    import torch

    now = time.perf_counter if device.type == "cuda" else clock
    taken: list[float] = []
    while len(taken) < steps and sum(taken) < ENOUGH:
        began = now()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(now() - began)
    return 1e3 * statistics.median(taken)


def _peak(step: Callable[[], None], device: torch.device) -> float:
    """Return the most MiB that a step holds of what it allocates itself; what was there before is not counted."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    return peak_of_tensors(step) / MIB
