"""The modules: teachers stay outside, several teachers join as they should, divergence names its term."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill import training
from distill.assemble import assemble
from distill.config import ConfigError, compose, resolved
from distill.fit import BEST, LAST, STUDENT, fit, folder_of
from distill.losses.base import Loss
from distill.modules.base import DivergenceError, start_momentum
from distill.modules.multi_teacher import MultiTeacher, join
from distill.modules.single_teacher import SingleTeacher
from distill.outputs import Batch, Outputs
from distill.records import RESULT, read_json

FAST = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.train_size=300", "quiet=true"]
FAST += ["dataset.val_fraction=0.1", "dataset.batch_size=64"]
BUILT = "teacher.digits_cnn.checkpoint=built"


def config(*overrides: str) -> dict[str, Any]:
    return resolved(compose([*FAST, BUILT, *overrides]))


def batch(parts: Any) -> Batch:
    return next(iter(parts.data.loader("test")))


def test_single_teacher__the_teacher_is_in_no_state_and_no_optimizer() -> None:
    parts = assemble(config())
    assert isinstance(parts.module, SingleTeacher)
    names = [name for name, _ in parts.module.named_parameters()]
    assert names
    assert all(name.startswith("student.network.") for name in names)
    assert sum(p.numel() for p in parts.module.parameters()) == sum(p.numel() for p in parts.student.parameters())
    assert all(not m.training for t in parts.teachers.values() for m in t.network.modules())  # type: ignore[attr-defined]


def test_single_teacher__connectors_train_and_are_saved_but_are_not_the_student(tmp_path: Path) -> None:
    cfg = config("loss=[ce,fitnet]", f"out={tmp_path}")
    record = fit(cfg, [], "fitnet")
    checkpoint = torch.load(folder_of(cfg) / LAST, weights_only=True)
    keys = set(checkpoint["state_dict"])
    assert any(k.startswith("objective.losses.fitnet.") for k in keys)
    assert all(k.startswith(("student.network.", "objective.")) for k in keys)
    from safetensors.torch import load_file

    student = load_file(folder_of(cfg) / STUDENT)
    assert {f"student.network.{k}" for k in student} == {k for k in keys if k.startswith("student.")}
    assert record["params"] == 5178
    assert (folder_of(cfg) / BEST).is_file()


@pytest.mark.parametrize("best", [1, 2])
def test_training__the_best_epoch_is_tested_once_more_only_where_it_is_not_the_last(
    best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tested, real = [], training._tested
    monkeypatch.setattr(training, "_tested", lambda *args: tested.append(1) or real(*args))
    monkeypatch.setattr(
        training._BestCheckpoint, "check_monitor_top_k", lambda _, trainer, current: trainer.current_epoch < best
    )
    cfg = config(f"out={tmp_path}", "optimizer.lr=0.05")
    record = fit(cfg, [], "kd")
    kept = [torch.load(folder_of(cfg) / name, weights_only=True) for name in (BEST, LAST)]
    assert [state["epoch"] for state in kept] == [best - 1, 1]
    from safetensors.torch import load_file

    for name, value in load_file(folder_of(cfg) / STUDENT).items():
        assert torch.equal(value, kept[0]["state_dict"][f"student.network.{name}"])
    assert len(tested) == 3 - best
    assert record["test"]["accuracy"] == record["history"][best - 1]["test/accuracy"]
    assert record["test_last"]["accuracy"] == record["history"][1]["test/accuracy"]


def test_training__a_fixed_teacher_is_unchanged_and_the_student_is_not(tmp_path: Path) -> None:
    cfg = config(f"out={tmp_path}")
    before = assemble(cfg)
    fit(cfg, [], "kd")
    after = assemble(cfg)
    for a, b in zip(
        before.teachers["digits_cnn"].network.parameters(),  # type: ignore[attr-defined]
        after.teachers["digits_cnn"].network.parameters(),  # type: ignore[attr-defined]
        strict=True,
    ):
        assert torch.equal(a, b)


def naive(outputs: dict[str, Outputs], weights: dict[str, float], average: str) -> list[list[float]]:
    total = sum(weights.values())
    first = next(iter(outputs.values())).logits
    rows = []
    for i in range(first.shape[0]):
        row = []
        for k in range(first.shape[1]):
            if average == "logits":
                row.append(sum(weights[n] / total * o.logits[i, k].item() for n, o in outputs.items()))
            else:
                p = 0.0
                for n, o in outputs.items():
                    z = [math.exp(v) for v in o.logits[i].tolist()]
                    p += weights[n] / total * z[k] / sum(z)
                row.append(math.log(p))
        rows.append(row)
    return rows


@pytest.mark.parametrize("average", ["logits", "probabilities"])
@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 1.0}, {"a": 3.0, "b": 1.0}])
def test_join__equals_a_naive_loop(average: str, weights: dict[str, float]) -> None:
    torch.manual_seed(0)
    outputs = {n: Outputs(torch.randn(3, 5), {"tap": torch.randn(3, 2)}) for n in weights}
    joined = join(outputs, weights, average)
    torch.testing.assert_close(joined.logits.double(), torch.tensor(naive(outputs, weights, average)).double())
    assert set(joined.features) == {"a/tap", "b/tap"}
    assert torch.equal(joined.features["b/tap"], outputs["b"].features["tap"])


def test_join__a_teacher_of_weight_zero_has_no_say() -> None:
    outputs = {"a": Outputs(torch.randn(3, 5)), "b": Outputs(torch.randn(3, 5))}
    for average, expected in (("logits", outputs["a"].logits), ("probabilities", outputs["a"].logits.log_softmax(1))):
        torch.testing.assert_close(join(outputs, {"a": 2.0, "b": 0.0}, average).logits, expected)


TWO = ["+teacher.other=${teacher.digits_cnn}", "teacher.digits_cnn.weight=3"]


def test_multi_teacher__trains_and_reports_agreement(tmp_path: Path) -> None:
    cfg = config(*TWO, f"out={tmp_path}", "loss=[ce,kd,fitnet]", "loss.fitnet.teacher_tap=other/stage2")
    parts = assemble(cfg)
    assert isinstance(parts.module, MultiTeacher)
    record = fit(cfg, [], "two")
    assert 0 <= record["test"]["agreement"] <= 100
    assert {"loss/kd", "loss/fitnet", "train/agreement"} <= set(record["history"][-1])


def test_multi_teacher__a_tap_without_its_teacher_is_refused() -> None:
    with pytest.raises(ConfigError, match="write teacher/tap; they are digits_cnn, other"):
        assemble(config(*TWO, "loss=[ce,fitnet]"))


class Bad(Loss):
    """Becomes NaN at its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        self.calls += 1
        return student.logits.sum() * (math.nan if self.calls > 7 else 0.0)


def test_training__a_nan_names_term_and_step_and_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    cfg = config(f"out={tmp_path}")
    cfg["loss"]["bad"] = {"_target_": "tests.test_modules.Bad", "weight": 1.0}
    with pytest.raises(DivergenceError, match=r"loss/bad is not finite at step 7 \(epoch 2\); .*last\.ckpt"):
        fit(cfg, [], "nan")
    record = read_json(folder_of(cfg) / RESULT)
    assert record is not None
    assert record["status"] == "failed"
    state = torch.load(folder_of(cfg) / LAST, weights_only=True)
    assert state["global_step"] == 5
    assert all(v.isfinite().all() for v in state["state_dict"].values())


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=bf16-mixed"],
        ["trainer.accumulate_grad_batches=2"],
        ["trainer.gradient_clip_val=0.1"],
        ["ema_decay=0.9"],
        ["teacher.digits_cnn.precision=bf16"],
        ["optimizer=adamw", "lr_scheduler=constant"],
        ["dataset.val_fraction=0"],
    ],
    ids=lambda o: o[0],
)
@pytest.mark.slow
def test_training__lightning_options_work(overrides: list[str], tmp_path: Path) -> None:
    record = fit(config(*overrides, f"out={tmp_path}"), [], "option")
    row = record["history"][-1]
    assert all(math.isfinite(v) for v in row.values())
    batches = -(-(270 if "dataset.val_fraction=0" not in overrides else 300) // 64)
    expected = 2 * (-(-batches // 2) if "trainer.accumulate_grad_batches=2" in overrides else batches)
    assert record["steps"] == expected
    assert (record["accuracy"]["val_chosen"] is None) == ("dataset.val_fraction=0" in overrides)


def test_training__the_first_step_is_hand_written_sgd(tmp_path: Path) -> None:
    cfg = config(f"out={tmp_path}", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "dataset.augment=null")
    cfg["optimizer"] |= {"momentum": 0.0, "weight_decay": 0.0, "lr": 0.1}
    parts = assemble(cfg)
    parts.module.train()
    first = next(parts.data.train_batches())
    net = parts.student.network.train()
    x = (first.inputs.float() / 255 - parts.data.mean[0]) / parts.data.std[0]
    teacher = parts.teachers["digits_cnn"].network  # type: ignore[attr-defined]
    z, t = net(x), teacher(x).detach()
    soft = (t / 5).softmax(1)
    kd = 25 * (soft * (soft.log() - (z / 5).log_softmax(1))).sum(1).mean()
    (torch.nn.functional.cross_entropy(z, first.target) + kd).backward()
    expected = {k: p.detach() - 0.1 * p.grad for k, p in net.named_parameters() if p.grad is not None}
    fit(cfg, [], "one step")
    state = torch.load(folder_of(cfg) / LAST, weights_only=True)["state_dict"]
    for name, value in expected.items():
        torch.testing.assert_close(state[f"student.network.{name}"], value, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_start_momentum__fused_sgd_steps_as_before_and_takes_parameters_that_join_later(nesterov: bool) -> None:
    torch.manual_seed(0)
    starts, gradients = torch.randn(2, 5), torch.randn(3, 2, 5)

    def trained(fused: bool) -> list[Tensor]:
        early, late = (start.clone().requires_grad_() for start in starts)
        optimizer = torch.optim.SGD([early, late], 0.1, 0.9, weight_decay=0.01, nesterov=nesterov, fused=fused)
        start_momentum(optimizer)
        for step, (one, other) in enumerate(gradients):
            early.grad, late.grad = one.clone(), other.clone() if step else None
            optimizer.step()
        return [early.detach(), late.detach()]

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-6, atol=1e-7)
