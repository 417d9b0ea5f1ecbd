"""A run that was killed at any step and started again ends with the bits of one that was not."""

import itertools
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.comparison import alone
from distill.config import compose, resolved
from distill.fit import LAST, STUDENT, Interrupted, fit, folder_of
from distill.modules.steps import Steps
from distill.modules.tally import Seen
from distill.outputs import Batch
from distill.records import RESULT, read_json

SMALL = [
    "trainer.max_epochs=3", "trainer.accelerator=cpu", "optimizer.lr=0.2", "dataset.batch_size=128",
    "dataset.train_size=600", "dataset.val_fraction=0.1", "quiet=true", "checkpoint_every=2",
    "trainer.log_every_n_steps=3",
]  # fmt: skip
# an epoch is 5 steps, 540 images in batches of 128; a call takes 3 at most, and none goes beyond a checkpoint


def config(out: Path, *overrides: str) -> dict[str, Any]:
    cfg = compose([*SMALL, f"out={out}", "teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built", *overrides])
    return resolved(cfg)


def killed_at(kill_after: int, kind: int, cfg: dict[str, Any]) -> int | None:
    """Train in a child that sends itself a signal after an optimizer step; return its exit code."""

    def child() -> None:
        torch.set_num_threads(1)
        done = itertools.count(1)

        take = Steps.take

        def then_signal(self: Steps, batch: Batch, step: int, number: int, total: int) -> Seen:
            found = take(self, batch, step, number, total)
            if self.ends(number, total) and next(done) == kill_after:
                os.kill(os.getpid(), kind)
            return found

        Steps.take = then_signal  # type: ignore[method-assign]
        try:
            fit(cfg, [], "killed")
        except Interrupted:
            os._exit(143)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    return process.exitcode


def clean(history: list[dict[str, float]]) -> list[dict[str, Any]]:
    # MKL may round a sum over a whole split otherwise in another process; everything that training computes is exact
    return [
        {k: pytest.approx(v, rel=1e-6) if k.endswith("nll") else v for k, v in row.items() if k != "seconds"}
        for row in history
    ]


def exact(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


@pytest.fixture(scope="module", params=["plain", "dropout, EMA, weight schedule by step"])
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict, dict]:
    torch.set_num_threads(1)
    extra = [] if request.param == "plain" else [
        "ema_decay=0.9", "schedule_interval=step", "scheduler=[linear_temperature,linear_weight]",
        "loss.kd.weight=${scheduler.linear_weight}", "student._target_=tests.networks_for_tests.dropout_mlp",
        "+student.hidden=32", "~student.width", "~student.channels",
    ]  # fmt: skip
    cfg = config(tmp_path_factory.mktemp("unbroken"), *extra)
    record = fit(cfg, [], "unbroken")
    return extra, record, load_file(folder_of(cfg) / STUDENT)


SLOW = [pytest.param(step, marks=pytest.mark.slow) for step in (1, 8, 9, 10, 14)]


@pytest.mark.parametrize("step", [3, 5, 15, *SLOW])
@pytest.mark.slow
def test_fit__killed_and_started_again_is_bit_identical(
    unbroken: tuple[list[str], dict, dict], tmp_path: Path, step: int
) -> None:
    extra, record, weights = unbroken
    cfg = config(tmp_path, *extra)
    assert killed_at(step, signal.SIGKILL, cfg) == -signal.SIGKILL
    assert (folder_of(cfg) / LAST).is_file() == (step > 2)
    again = fit(cfg, [], "again")
    assert exact(again["history"]) == clean(record["history"])
    found = load_file(folder_of(cfg) / STUDENT)
    assert all(torch.equal(v, found[k]) for k, v in weights.items())
    assert again["accuracy"] == record["accuracy"]
    rows = (folder_of(cfg) / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + len(record["history"])


@pytest.mark.parametrize("step, kept_by_call, kept_by_step", [(7, 8, 7), (10, 10, 10)], ids=["inside", "at the end"])
def test_fit__sigterm_saves_at_the_end_of_the_call_and_says_so(
    unbroken: tuple[list[str], dict, dict], tmp_path: Path, step: int, kept_by_call: int, kept_by_step: int
) -> None:
    extra, record, weights = unbroken
    cfg = config(tmp_path, *extra, "checkpoint_every=null")
    assert killed_at(step, signal.SIGTERM, cfg) == 143
    kept = torch.load(folder_of(cfg) / LAST, weights_only=True)
    assert kept["global_step"] == (kept_by_step if cfg["ema_decay"] else kept_by_call)  # averaging looks at every step
    saved = read_json(folder_of(cfg) / RESULT)
    assert saved is not None
    assert saved["status"] == "interrupted"
    again = fit(cfg, [], "again")
    assert exact(again["history"]) == clean(record["history"])
    found = load_file(folder_of(cfg) / STUDENT)
    assert all(torch.equal(v, found[k]) for k, v in weights.items())


def test_fit__a_complete_run_is_not_trained_again(unbroken: tuple[list[str], dict, dict], tmp_path: Path) -> None:
    cfg = alone(compose([*SMALL, f"out={tmp_path}"]), seed=0)
    first = fit(cfg, [], "first")
    stamp = (folder_of(cfg) / RESULT).stat().st_mtime_ns
    assert fit(cfg, ["other"], "second") == first
    assert (folder_of(cfg) / RESULT).stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_fit__evaluates_every_other_epoch_and_resumes(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rare = ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4"]
    cfg = config(tmp_path / "whole", *rare)
    record = fit(cfg, [], "whole")
    assert ["test/accuracy" in row for row in record["history"]] == [False, True, False, True]
    assert record["accuracy"]["last"] == record["history"][-1]["test/accuracy"]
    assert record["accuracy"]["val_chosen_epoch"] in (2, 4)
    for step in (8, 13, 16):
        broken = config(tmp_path / str(step), *rare)
        assert killed_at(step, signal.SIGKILL, broken) == -signal.SIGKILL
        again = fit(broken, [], "again")
        assert exact(again["history"]) == clean(record["history"])
        assert again["accuracy"] == record["accuracy"]
        assert again["test"]["accuracy"] == record["test"]["accuracy"]
