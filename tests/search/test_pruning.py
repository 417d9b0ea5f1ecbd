"""Pruning from inside a training: what is reported, when it stops, what is kept, who goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distill.comparison import run
from distill.config import compose
from distill.fit import Pruned, folder_of
from distill.loggers import finish
from distill.records import RESULT, is_complete, read_json
from distill.search.study import PRUNER, Watched, absolute, opened

optuna = pytest.importorskip("optuna", reason="the extra distill[optuna] is not installed")

SMALL = [
    "trainer.max_epochs=3", "trainer.accelerator=cpu", "quiet=true", "seeds=1", "teacher.digits_cnn.checkpoint=built",
    "dataset.train_size=80",
]  # fmt: skip
ALWAYS = {"_target_": "optuna.pruners.ThresholdPruner", "lower": 200.0, "n_warmup_steps": 2}


def _study(tmp_path: Path, name: str, pruner: dict[str, Any] | None = ALWAYS) -> tuple[Any, dict[str, Any]]:
    storage = absolute(f"journal:///{tmp_path}/s.log")
    study = optuna.create_study(study_name=name, storage=opened(storage), direction="maximize")
    study.set_user_attr(PRUNER, pruner)
    study.ask()
    return study, {"storage": storage, "study": name, "number": 0}


def test_run__is_pruned_once_and_goes_on_for_others(tmp_path: Path) -> None:
    study, trial = _study(tmp_path, "a")
    cfg = {**compose([*SMALL, f"out={tmp_path}", "alone=true"]), "trial": trial}
    with pytest.raises(Pruned, match=r"student distilled: pruned after epoch 2 at \d+") as first:
        run(cfg, checked=True)
    folder = first.value.folder
    record = read_json(folder / RESULT)
    assert record is not None
    assert not is_complete(record)
    assert (record["status"], record["pruned"]["epoch"], record["epochs"]) == ("pruned", 2, 2)
    told = {int(row["epoch"]): row["val/accuracy"] for row in record["history"]}
    assert study.trials[0].intermediate_values == told
    alone = [r for r in map(read_json, tmp_path.glob(f"*/{RESULT}")) if r and not r["config"]["teacher"]]
    assert [(r["status"], r["epochs"]) for r in alone] == [("complete", 3)]

    # the same search asks again, as another trial: nothing is trained, and the pruner knows its values
    before = (folder / RESULT).stat().st_mtime_ns
    study.ask()
    with pytest.raises(Pruned, match="after epoch 2"):
        run({**cfg, "trial": {**trial, "number": 1}}, checked=True)
    assert (folder / RESULT).stat().st_mtime_ns == before
    assert study.trials[1].intermediate_values == told

    # nobody's trial: it goes on from its checkpoint and ends where it would have ended
    result = run({**cfg, "trial": None}, checked=True)
    gone_on = result.arms["distilled"][0]
    assert gone_on["epochs"] == 3
    assert folder_of(gone_on["config"]) == folder
    fresh = run({**cfg, "trial": None, "out": str(tmp_path / "fresh"), "alone": False}, checked=True)
    losses = [[row["train/loss"] for row in r["history"]] for r in (gone_on, fresh.arms["distilled"][0])]
    assert losses[0] == losses[1]


def test_run__not_pruned_in_its_last_epoch_nor_without_pruner(tmp_path: Path) -> None:
    last = {**ALWAYS, "n_warmup_steps": 3}
    for name, pruner in (("last", last), ("none", None)):
        study, trial = _study(tmp_path, name, pruner)
        cfg = {**compose([*SMALL, f"out={tmp_path / name}", "alone=false"]), "trial": trial}
        assert run(cfg, checked=True).arms["distilled"][0]["epochs"] == 3
        assert sorted(study.trials[0].intermediate_values) == [1, 2, 3]


def test_watched__compares_with_the_median_of_the_others(tmp_path: Path) -> None:
    median = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2, "n_warmup_steps": 0}
    study, _ = _study(tmp_path, "a", median)
    storage = absolute(f"journal:///{tmp_path}/s.log")
    for number, values in enumerate([(50.0, 60.0), (70.0, 80.0), (59.0, 69.0), (61.0, 71.0)]):
        if number:
            study.ask()
        trial = Watched(storage, "a", number)
        trial.report([{"epoch": i, "val/accuracy": v} for i, v in enumerate(values, 1)])
        # medians of the first two after epoch 2: (60 + 80) / 2 = 70
        assert trial.hopeless() is (number == 2)
        study.tell(number, values[-1])
        trial.report([{"epoch": 3, "val/accuracy": 1.0}])  # over: nothing more is taken
        assert sorted(study.trials[number].intermediate_values) == [1, 2]


def test_finish__a_pruned_run_is_no_failure_in_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    class Run:
        summary: dict[str, Any] = {}  # noqa: RUF012
        code: int | None = None

        def finish(self, exit_code: int) -> None:
            self.code = exit_code

    run = Run()
    monkeypatch.setattr(wandb, "run", run)
    finish([WandbLogger.__new__(WandbLogger)], {"status": "pruned", "pruned": {"epoch": 2, "val": 1.0}})
    assert (run.code, run.summary["status"]) == (0, "pruned")
