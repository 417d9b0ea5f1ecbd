"""Two processes with half a batch each against one with the whole: values, steps and memories are the same."""

import multiprocessing
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from distill.losses.base import Loss
from distill.losses.gathering import gather
from distill.losses.memory import Memory
from distill.outputs import Batch, Outputs, Spec, TrainingSet

from .settings import SETTINGS, Setting, build

BATCH, STEPS, SAMPLES, CLASSES = 6, 3, 24, 4
LOSSES = {
    "sp": {"student_tap": "pooled", "teacher_tap": "pooled"}, "pkt": {}, "rkd": {}, "rkd_vertices": {}, "cc": {},
    "cc_strict": {}, "dist_cold": {}, "crd": {}, "crd_relax": {}, "seed": {}, "compress": {}, "compress_two": {},
}  # fmt: skip
"""Settings whose loss of two processes has to be that of one, and what is changed in them."""
LOCAL = ("sp", "pkt", "rkd", "cc", "dist_cold")
"""Those that compare the samples of one process only, where they are told not to gather."""


class Trained(NamedTuple):
    """What a training left: the value of each step, the weights, the memories."""

    values: list[Tensor]
    weights: list[Tensor]
    memories: list[Tensor]


class Net(nn.Module):
    """A student of one layer beside the loss, as DDP sees them."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.layer, self.classifier, self.loss = nn.Linear(8, 12), nn.Linear(12, CLASSES), loss

    def forward(self, batch: Batch, teacher: Outputs) -> Tensor:
        feature = self.layer(batch.inputs)
        logits = self.classifier(feature)
        # the classifier takes part, as it does beside cross-entropy
        value: Tensor = self.loss(Outputs(logits, {"pooled": feature}), teacher, batch)
        return value + 0 * logits.sum()


def setting(name: str, more: dict[str, object]) -> Setting:
    found = next(s for s in SETTINGS if s.id == name)
    return found._replace(kwargs={**found.kwargs, **LOSSES[name], **more})


def train(name: str, rank: int, world: int, more: dict[str, object]) -> Trained:
    torch.manual_seed(0)
    loss = build(setting(name, more))
    specs = {"logits": Spec((CLASSES,))}
    loss.prepare({**specs, "pooled": Spec((12,))}, {**specs, "pooled": Spec((20,))})
    loss.meet(TrainingSet(torch.arange(SAMPLES) % CLASSES, CLASSES))
    net = Net(loss)
    model = DistributedDataParallel(net) if world > 1 else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    random, values = torch.Generator().manual_seed(1), []
    share = BATCH // world
    mine = slice(rank * share, (rank + 1) * share)
    for step in range(STEPS):
        inputs, other = torch.randn(BATCH, 8, generator=random), torch.randn(BATCH, 20, generator=random)
        index = (torch.arange(BATCH) * 5 + 7 * step) % SAMPLES
        logits = torch.randn(BATCH, CLASSES, generator=random)[mine]
        batch = Batch(inputs[mine], (index % CLASSES)[mine], index[mine], 0 * index[mine])
        value = model(batch, Outputs(logits, {"pooled": other[mine]}))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.detach())
    memories = [m.read().clone() for m in loss.modules() if isinstance(m, Memory)]
    return Trained(values, [p.detach() for p in net.parameters()], memories)


def work(folder: Path, rank: int) -> None:
    """Train with every loss in one of two processes, and leave what came out in a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {name: tuple(train(name, rank, 2, {})) for name in LOSSES}
    found |= {f"{name} local": tuple(train(name, rank, 2, {"gather": False})) for name in LOCAL}
    part = torch.full((1,), rank + 1.0, requires_grad=True)
    (gather(part) * torch.tensor([3.0, 5.0])).sum().backward()
    torch.save(found | {"gathered": gather(part.detach()), "gradient": part.grad}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple]]:
    folder = tmp_path_factory.mktemp("two")
    train("sp", 0, 1, {})  # imports, once for all three processes, what torch puts off for seconds

    def child(rank: int) -> None:
        work(folder, rank)
        os._exit(0)  # without what pytest does at the end of its process

    processes = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_gather__is_in_order_and_counts_the_gradient_once_a_process(two: list[dict]) -> None:
    assert [list(found["gathered"]) for found in two] == [[1, 2], [1, 2]]
    assert [found["gradient"].item() for found in two] == [2 * 3, 2 * 5]


def test_gather__one_process() -> None:
    tensor = torch.randn(3, 2)
    assert gather(tensor) is tensor


@pytest.mark.parametrize("name", LOSSES)
def test_loss__two_processes_train_as_one(name: str, two: list[dict]) -> None:
    one, (first, second) = train(name, 0, 1, {}), (Trained(*found[name]) for found in two)
    for step, value in enumerate(one.values):
        torch.testing.assert_close((first.values[step] + second.values[step]) / 2, value, rtol=1e-5, atol=1e-6)
    for alone, a, b in zip(one.weights, first.weights, second.weights, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, alone, rtol=1e-5, atol=2e-6)
    assert len(one.memories) == {"crd": 2, "crd_relax": 2, "seed": 1, "compress": 1, "compress_two": 2}.get(name, 0)
    for alone, a, b in zip(one.memories, first.memories, second.memories, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOCAL)
def test_loss__without_gathering_it_is_another(name: str, two: list[dict]) -> None:
    """So the test above could fail."""
    one, both = train(name, 0, 1, {}), [Trained(*found[f"{name} local"]) for found in two]
    assert ((both[0].values[0] + both[1].values[0]) / 2 - one.values[0]).abs() > 1e-3 * one.values[0].abs()
