"""The gradient norm of each term: what it is, and that measuring it changes no bit of a training."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from distill.assemble import assemble
from distill.config import compose, resolved
from distill.fit import STUDENT, fit, folder_of
from distill.modules.pulls import Pulls

SMALL = [
    "trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.batch_size=64", "dataset.train_size=200",
    "dataset.val_fraction=0", "quiet=true", "teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built",
    "loss=[ce,kd,fitnet]",
]  # fmt: skip
CASES = {
    "connector, weight 0": ["loss.ce.weight=0"],
    "learned temperature": ["scheduler=[ctkd_temperature]"],
    "accumulation, bf16": ["trainer.accumulate_grad_batches=2", "trainer.precision=bf16-mixed"],
    "dropout": [
        "student._target_=tests.networks_for_tests.dropout_mlp", "+student.hidden=32", "~student.width",
        "~student.channels", "loss=[ce,kd]",
    ],
}  # fmt: skip


def config(out: Path, *overrides: str) -> dict[str, Any]:
    return resolved(compose([*SMALL, f"out={out}", *overrides]))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_fit__measuring_changes_no_bit(case: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    given = {on: config(tmp_path / on, *CASES[case], f"term_gradients={on}") for on in ("true", "false")}
    records = {on: fit(cfg, [], on) for on, cfg in given.items()}
    weights = [load_file(folder_of(cfg) / STUDENT) for cfg in given.values()]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    for with_norms, without in zip(records["true"]["history"], records["false"]["history"], strict=True):
        norms = {k: v for k, v in with_norms.items() if k.startswith("grad_norm/")}
        assert norms.keys() == {f"grad_norm/{name}" for name in given["true"]["loss"]}
        assert (norms["grad_norm/ce"] == 0) == (case == "connector, weight 0")
        assert norms["grad_norm/kd"] > 0
        same = {k: v for k, v in with_norms.items() if k not in norms}
        assert {**same, "seconds": 0} == {**without, "seconds": 0}


def test_fit__is_the_norm_of_weight_times_term(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cfg = config(tmp_path, "loss=[ce,kd]", "loss.kd.weight=0.3", "dataset.augment=null", "trainer.max_epochs=1")
    parts = assemble(cfg)
    parts.module.train()
    first = next(parts.data.train_batches())
    student, teacher = parts.student(first.inputs), parts.module.teach(first)
    expected = {}
    for name, loss in parts.objective.losses.items():
        weight = {"ce": 1.0, "kd": 0.3}[name]
        found = torch.autograd.grad(loss(student, teacher, first), list(parts.student.parameters()), retain_graph=True)
        expected[f"grad_norm/{name}"] = weight * math.sqrt(sum(float(g.double().square().sum()) for g in found))
    row = fit(cfg, [], "norms")["history"][0]
    assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-4)


class Scaler:
    """Stands for a gradient scaler."""

    def scale(self, value: torch.Tensor) -> torch.Tensor:
        return 1024 * value


class Alone:
    """Stands for the strategy of one process."""

    def reduce(self, value: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return value


def test_pulls__by_hand_scaled_or_not_and_only_what_is_finite() -> None:
    network, other = nn.Linear(2, 1, bias=False), nn.Linear(1, 1)
    x = torch.tensor([3.0, 4.0])
    for scaler in (None, Scaler()):
        pulls = Pulls(["two", "none", "elsewhere", "constant", "infinite"])
        value = network(x)[0]
        parts = {"two": 2 * value, "elsewhere": other(torch.ones(1))[0], "constant": torch.ones(())}
        parts["infinite"] = math.inf * value
        pulls.measure(parts, network, scaler)
        found = pulls.take(Alone())  # type: ignore[arg-type]
        norms = {"two": 10.0, "none": 0.0, "elsewhere": 0.0, "constant": 0.0}
        assert found == {f"grad_norm/{k}": pytest.approx(v) for k, v in norms.items()}
        assert pulls.sums.tolist() == [0.0] * 6
        assert network.weight.grad is None
        parts["two"].backward()  # the graph is still there
        network.weight.grad = None
