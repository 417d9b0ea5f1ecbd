"""DOT moves as its two momenta say, as SGD where there is no distillation, and in training as by hand."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.assemble import assemble
from distill.comparison import alone, teacher_config
from distill.config import ConfigError, compose, resolved
from distill.fit import LAST, STUDENT, fit, folder_of
from distill.optimizers.dot import DOT
from tests.ranks import fit_in_two
from tests.test_resume import exact, killed_at

LR, DECAY = 0.1, 0.01
Steps = list[tuple[Tensor, Tensor]]


def steps(count: int = 6, seed: int = 0) -> Steps:
    """Gradients of task and distillation by step."""
    random = torch.Generator().manual_seed(seed)
    return [tuple(torch.randn(2, 3, generator=random, dtype=torch.float64)) for _ in range(count)]  # type: ignore[misc]


def naive(
    start: Tensor, given: Steps, momentum: float, delta: float, nesterov: bool = False, decay: float = DECAY
) -> Tensor:
    """The paper's update, one number at a time."""
    theta, task, taught = start.tolist(), [0.0] * 3, [0.0] * 3
    for g_task, g_kd in given:
        for i in range(3):
            a, b = float(g_task[i]) + decay * theta[i], float(g_kd[i])
            task[i] = (momentum - delta) * task[i] + a
            taught[i] = (momentum + delta) * taught[i] + b
            step = task[i] + taught[i]
            if nesterov:
                step = a + (momentum - delta) * task[i] + b + (momentum + delta) * taught[i]
            theta[i] -= LR * step
    return torch.tensor(theta, dtype=torch.float64)


def moved(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, given: Steps, told: bool = True) -> Tensor:
    for g_task, g_kd in given:
        parameter.grad = g_task + g_kd
        if told:
            optimizer.take_distillation([parameter], [g_kd.clone()])  # type: ignore[attr-defined]
        optimizer.step()
    return parameter.detach().clone()


def start() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("momentum", "delta"), [(0.9, 0.075), (0.9, 0.09), (0.5, 0.5 - 1e-9), (0.9, -0.05)])
def test_step__is_the_papers_update(momentum: float, delta: float, nesterov: bool) -> None:
    parameter = start()
    optimizer = DOT([parameter], LR, momentum, delta, DECAY, nesterov)
    expected = naive(start().detach(), steps(), momentum, delta, nesterov)
    torch.testing.assert_close(moved(optimizer, parameter, steps()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("delta", "told"), [(0.0, True), (0.075, False)])
def test_step__is_sgd_bit_for_bit_without_delta_or_distillation(delta: float, told: bool, nesterov: bool) -> None:
    one, other = start(), start()
    dot = DOT([one], LR, 0.9, delta, DECAY, nesterov)
    sgd = torch.optim.SGD([other], LR, 0.9, weight_decay=DECAY, nesterov=nesterov, foreach=True)
    assert torch.equal(moved(dot, one, steps(), told), moved(sgd, other, steps(), told=False))


def test_step__goes_on_as_sgd_until_distillation_comes_and_lets_it_fade_when_it_ends() -> None:
    parameter = start()
    optimizer = DOT([parameter], LR, 0.9, 0.075, DECAY)
    first, rest = [(a, 0 * b) for a, b in steps(3)], steps(3, seed=1)
    last = [(a, 0 * b) for a, b in steps(3, seed=2)]
    moved(optimizer, parameter, first, told=False)
    moved(optimizer, parameter, rest)
    found = moved(optimizer, parameter, last, told=False)

    theta, task, taught = start().detach(), torch.zeros(3).double(), torch.zeros(3).double()
    for number, (g_task, g_kd) in enumerate([*first, *rest, *last]):
        task = (0.9 if number < 3 else 0.825) * task + g_task + DECAY * theta
        taught = 0.975 * taught + g_kd
        theta = theta - LR * (task + taught)
    torch.testing.assert_close(found, theta, rtol=1e-12, atol=1e-12)


def test_step__groups_and_parameters_without_gradient() -> None:
    taught, plain, idle = start(), start(), start()
    optimizer = DOT([{"params": [taught, idle]}, {"params": [plain], "lr": 0.01}], LR, 0.9, 0.075)
    for g_task, g_kd in steps():
        taught.grad = plain.grad = g_task + g_kd
        optimizer.take_distillation([taught], [g_kd])
        optimizer.step()
    torch.testing.assert_close(taught.detach(), naive(start().detach(), steps(), 0.9, 0.075, decay=0.0))
    sgd = start()
    moved(torch.optim.SGD([sgd], 0.01, 0.9), sgd, steps(), told=False)
    torch.testing.assert_close(plain, sgd)
    assert torch.equal(idle, start())
    assert set(optimizer.state_dict()["state"]) == {0, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0, got -1"),
        ({"lr": 0.1, "weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"lr": 0.1, "delta": 0.1}, "delta must leave .* got 0.1 for 0.9"),
        ({"lr": 0.1, "momentum": 0.05, "delta": 0.06}, "delta must leave .* got 0.06 for 0.05"),
    ],
)
def test_init__refuses(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DOT([start()], **arguments)


SMALL = [
    "optimizer=dot", "trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.train_size=300", "quiet=true",
    "dataset.val_fraction=0", "dataset.batch_size=64", "teacher.digits_cnn.checkpoint=built",
]  # fmt: skip
MLP = ["student._target_=tests.networks_for_tests.mlp", "+student.hidden=32", "~student.width", "~student.channels"]


def config(*overrides: str) -> dict[str, Any]:
    return resolved(compose([*SMALL, *overrides]))


@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (2, 0.05)])
def test_training__is_a_hand_written_loop(accumulate: int, clip: float | None, tmp_path: Path) -> None:
    cfg = config(
        *MLP, f"out={tmp_path}", "trainer.max_epochs=1", "dataset.augment=null", "lr_scheduler=constant",
        "loss.kd.temperature=3", f"trainer.accumulate_grad_batches={accumulate}",
        f"trainer.gradient_clip_val={'null' if clip is None else clip}",
    )  # fmt: skip
    parts = assemble(cfg)
    net = parts.student.network.train()
    theta = dict(net.named_parameters())
    task, taught = ({k: torch.zeros_like(p) for k, p in theta.items()} for _ in range(2))
    batches = list(parts.data.train_batches())
    for first in range(0, len(batches), accumulate):
        sums: list[dict[str, Tensor]] = [{k: torch.zeros_like(p) for k, p in theta.items()} for _ in range(2)]
        for batch in batches[first : first + accumulate]:
            logits = parts.student(batch.inputs).logits
            told = parts.teachers["digits_cnn"](batch).logits
            soft = F.kl_div((logits / 3).log_softmax(1), (told / 3).softmax(1), reduction="batchmean") * 9
            for found, value in zip(sums, (F.cross_entropy(logits, batch.target), soft), strict=True):
                gradients = torch.autograd.grad(value / accumulate, list(theta.values()), retain_graph=True)
                for k, gradient in zip(theta, gradients, strict=True):
                    found[k] += gradient
        whole = torch.cat([(sums[0][k] + sums[1][k]).flatten() for k in theta]).norm()
        factor = 1.0 if clip is None else min(1.0, clip / float(whole))
        assert clip is None or factor < 1
        with torch.no_grad():
            for k, p in theta.items():
                task[k] = 0.825 * task[k] + factor * sums[0][k] + 5e-4 * p
                taught[k] = 0.975 * taught[k] + factor * sums[1][k]
                p -= cfg["optimizer"]["lr"] * (task[k] + taught[k])
    fit(cfg, [], "dot")
    for k, value in load_file(folder_of(cfg) / STUDENT).items():
        torch.testing.assert_close(value, theta[k].detach(), rtol=1e-4, atol=1e-6)


def test_training__a_student_alone_moves_by_sgd(tmp_path: Path) -> None:
    found = []
    for name in ("dot", "sgd"):
        cfg = alone(compose([*SMALL, f"out={tmp_path}", f"optimizer={name}", "trainer.max_epochs=1"]), seed=0)
        if name == "sgd":
            cfg["optimizer"] |= {"fused": False, "foreach": True}
        fit(cfg, [], name)
        found.append(load_file(folder_of(cfg) / STUDENT))
    assert all(torch.equal(value, found[1][k]) for k, value in found[0].items())


def test_training__connectors_and_an_objective_of_distillation_only_are_not_taken_apart(tmp_path: Path) -> None:
    cfg = config("loss=[ce,kd,fitnet]", f"out={tmp_path}")
    parts = assemble(cfg)
    fit(cfg, [], "fitnet")
    state = torch.load(folder_of(cfg) / LAST, weights_only=True)["optimizer_states"][0]["state"]
    names = [name for name, p in parts.module.named_parameters() if p.requires_grad]
    assert {names[i].split(".")[0] for i, s in state.items() if "distillation_buffer" not in s} == {"objective"}
    assert {names[i].split(".")[0] for i, s in state.items() if "distillation_buffer" in s} == {"student"}
    assert not assemble(config("loss=[kd]")).objective.splits


@pytest.mark.slow
def test_training__killed_and_started_again_is_bit_identical(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    extra = ["checkpoint_every=2", "scheduler=[linear_temperature,warmup]", "loss.kd.weight=${scheduler.warmup}"]
    whole, broken = (config(f"out={tmp_path / name}", *extra) for name in ("whole", "broken"))
    record = fit(whole, [], "whole")
    assert killed_at(8, signal.SIGKILL, broken) == -signal.SIGKILL
    assert exact(fit(broken, [], "again")["history"]) == exact(record["history"])
    weights, again = (load_file(folder_of(cfg) / STUDENT) for cfg in (whole, broken))
    assert all(torch.equal(value, again[k]) for k, value in weights.items())


@pytest.mark.slow
def test_training__two_processes_average_both_gradients(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    found = []
    for strategy, devices in (("auto", 1), ("ddp", 2)):
        cfg = config(
            *MLP, f"out={tmp_path}", f"trainer.strategy={strategy}", f"trainer.devices={devices}",
            "dataset.train_size=384", "dataset.batch_size=128", "trainer.gradient_clip_val=1",
        )  # fmt: skip
        if devices == 1:
            fit(cfg, [], "one")
        else:
            fit_in_two(cfg)
        found.append(load_file(folder_of(cfg) / STUDENT))
    assert max((value - found[1][k]).abs().max().item() for k, value in found[0].items()) < 1e-6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.precision=16-mixed"], "trainer.precision=16-mixed: DOT takes .* take bf16-mixed or 32"),
        (
            ["trainer.gradient_clip_val=1", "+trainer.gradient_clip_algorithm=value"],
            "algorithm=value: DOT",
        ),
        (["trainer.strategy=fsdp", "trainer.devices=2"], "trainer.strategy=fsdp: DOT .* take ddp"),
        (["compile=true"], "compile=true: DOT .* take compile=false"),
    ],
    ids=lambda o: o[0],
)
def test_assemble__refuses_what_cannot_be_taken_apart(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assemble(config(*overrides))


def test_config__composes_with_the_recipe_and_a_pair() -> None:
    chosen = compose(["pair=vgg13_vgg8", "recipe=cifar_crd", "optimizer=dot", "dataset.root=/nowhere"])
    node = resolved(chosen)["optimizer"]
    assert node == {
        "_target_": "distill.optimizers.dot.DOT", "lr": 0.05, "momentum": 0.9, "delta": 0.075, "weight_decay": 5.0e-4,
        "nesterov": False,
    }  # fmt: skip


def test_teacher_config__the_teacher_of_a_student_under_dot_is_that_of_any_other() -> None:
    plain, dot = (resolved(compose(["student=digits_tiny", f"optimizer={name}"])) for name in ("sgd", "dot"))
    assert teacher_config(plain, "digits_cnn") == teacher_config(dot, "digits_cnn")
    assert alone(plain, 3) == alone(dot, 3)
