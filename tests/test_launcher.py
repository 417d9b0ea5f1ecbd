"""hydra/launcher=process: what cells are given, and whole sweeps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.conf import ConfigSourceInfo
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

import hydra_plugins.distill_process_launcher as plugin
from distill.cells import Cell, Ended
from distill.config import CONF
from distill.tables.found import collect

SMALL = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "alone=false", "seeds=1", "quiet=true"]
SEARCHES = sorted(path.stem for path in (CONF / "search").glob("*.yaml"))


@pytest.fixture
def loader() -> Iterator[Any]:
    kept = HydraConfig.instance().cfg
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
    HydraConfig.instance().cfg = kept


def _multirun(loader: Any, overrides: list[str]) -> DictConfig:
    config: DictConfig = loader.load_configuration("train", overrides, run_mode=RunMode.MULTIRUN)
    config.hydra.mode = RunMode.MULTIRUN
    return config


def _task(cfg: object) -> None:
    """Stand in for the task of distill."""


_task.__module__ = "distill.cli"


def _launched(
    loader: Any, typed: list[str], cells: list[list[str]], monkeypatch: pytest.MonkeyPatch, run: Callable[[Cell], Ended]
) -> tuple[list[Cell], Any]:
    seen: list[Cell] = []

    def run_cells(given: list[Cell], slots: object, forks: object) -> list[Ended]:
        seen.extend(given)
        return [run(cell) for cell in given]

    monkeypatch.setattr(plugin, "run_cells", run_cells)
    config = _multirun(loader, typed)
    launcher = plugin.ProcessLauncher(slots=2)
    launcher.setup(
        hydra_context=HydraContext(config_loader=loader, callbacks=Callbacks()), task_function=_task, config=config
    )
    return seen, launcher.launch(cells, initial_job_idx=3)


def test_launch__command_composes_to_the_cell(loader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    (own / "loss").mkdir(parents=True)
    (own / "loss" / "mine.yaml").write_text("mine: {_target_: distill.losses.ce.CE, weight: 2.0, label_smoothing: 0}\n")
    sweep = tmp_path / "it's, a={sweep}"
    typed = [
        "hydra/launcher=process", "hydra.launcher.slots=2", f"hydra.searchpath=[file://{own}]", "loss=[ce,mine],[ce]",
        f"hydra.sweep.dir={plugin.quoted(str(sweep))}", "quiet=true",
    ]  # fmt: skip
    cells, returns = _launched(loader, typed, [["loss=[ce,mine]", "quiet=true"]], monkeypatch, lambda c: Ended({}))
    (cell,) = cells
    assert cell.command[:4] == [sys.executable, "-m", "distill", "train"]
    assert cell.folder == sweep / "3"
    assert cell.words == "loss=[ce,mine]"
    assert cell.environment["WANDB_RUN_GROUP"] == sweep.name
    overrides = [word for word in cell.command[4:] if "=" in word and not word.startswith("/")]
    assert not any("launcher" in word or "sweep.dir" in word for word in overrides)
    child = loader.load_configuration("train", overrides, run_mode=RunMode.RUN)
    assert list(child.loss) == ["ce", "mine"]
    assert child.hydra.run.dir == str(sweep / "3")
    assert child.hydra.mode == RunMode.RUN
    assert "hydra" not in returns[0].cfg


def test_launch__returns_objective_or_failure(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(cell: Cell) -> Ended:
        return Ended({}, "[4] seed=1: exit code 2: sorry") if cell.number == 4 else Ended({"objective": 91.5})

    _, returns = _launched(loader, ["seed=0,1"], [["seed=0"], ["seed=1"]], monkeypatch, run)
    assert returns[0].return_value == 91.5
    assert returns[1].status is JobStatus.FAILED
    with pytest.raises(CompactHydraException, match="exit code 2: sorry"):
        _ = returns[1].return_value


def test_launch__check_only_needs_no_summary(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cells, _ = _launched(loader, ["check=only"], [["check=only"], []], monkeypatch, lambda c: Ended({}))
    assert [cell.trains for cell in cells] == [False, True]


def test_where__gives_the_user_s_folder(loader: Any) -> None:
    config = _multirun(loader, [])
    own = ConfigSourceInfo(path="/groups of mine", schema="file", provider="command-line")
    config.hydra.runtime.config_sources.append(own)
    assert plugin.where(config) == [
        "--config-name", "train", "--config-path", str(CONF), "--config-dir", "/groups of mine"
    ]  # fmt: skip


def test_forwarded__keeps_what_concerns_a_cell() -> None:
    typed = ["hydra.searchpath=[x]", "hydra/launcher=process", "hydra.launcher.slots=2", "+hydra.sweeper.n=3",
             "hydra.mode=MULTIRUN", "hydra.sweep.dir=a", "hydra.run.dir=b", "++hydra.job.env_set.A=1"]  # fmt: skip
    assert plugin.forwarded(typed) == ["hydra.searchpath=[x]", "++hydra.job.env_set.A=1"]


def test_setup__refuses_another_program_and_wrong_slots(loader: Any) -> None:
    config = _multirun(loader, [])
    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    with pytest.raises(CompactHydraException, match="starts distill train, not builtins"):
        plugin.ProcessLauncher().setup(hydra_context=context, task_function=print, config=config)
    with pytest.raises(CompactHydraException, match="hydra.launcher.slots=0"):
        plugin.ProcessLauncher(0).setup(hydra_context=context, task_function=_task, config=config)


@pytest.mark.parametrize("name", SEARCHES)
def test_search__space_names_what_exists(name: str, loader: Any) -> None:
    pytest.importorskip("optuna")
    config = _multirun(loader, [f"+search={name}"])
    assert "optuna" in config.hydra.sweeper._target_
    assert config.hydra.sweeper.objectives[0] == "val_accuracy"
    assert config.hydra.sweeper.directions[0] == "maximize"
    assert not config.alone
    words = [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]
    for override in OverridesParser.create().parse_overrides(words):
        assert override.is_interval_sweep() or override.is_discrete_sweep()
        assert isinstance(OmegaConf.select(config, override.get_key_element()), int | float)


def _distill(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distill", "train", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sweep__failure_is_isolated_and_a_rerun_trains_nothing(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "loss"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("mine: {_target_: distill.losses.ce.CE, weight: 1.0, label_smoothing: 0.1}\n")
    words = ["-m", "--config-dir", "mine", "hydra/launcher=process", "hydra.launcher.slots=2", *SMALL]
    words += ["teacher=[]", "loss=[mine]", "optimizer.lr=1e30,0.05", "hydra.sweep.dir=runs/sweeps/a"]
    first = _distill(tmp_path, *words)
    sweep = tmp_path / "runs" / "sweeps" / "a"
    assert first.returncode == 1, first.stderr
    assert "1 of 2 cells failed:" in first.stderr
    assert "is not finite" in (sweep / "0" / "job.out").read_text()
    summary = json.loads((sweep / "1" / "summary.json").read_text())
    (folder,) = summary["folders"]["alone"]
    before = (tmp_path / folder / "result.json").stat().st_mtime_ns
    again = _distill(tmp_path, *words)
    assert "[1] done in" in again.stderr
    assert (tmp_path / folder / "result.json").stat().st_mtime_ns == before
    found = collect([sweep])
    assert ["optimizer.lr=0.05" in row.typed for row in found.rows.values()] == [True]
    assert len(found.missing) == 1
    assert "optimizer.lr=1e+30" in found.missing[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sweep__ranks_of_a_cell_have_its_values(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    done = _distill(
        tmp_path, "-m", "hydra/launcher=process", "+search=temperature_weight", "hydra.sweeper.n_trials=1", *SMALL,
        "trainer.devices=2", "trainer.strategy=ddp", "hydra.sweep.dir=runs/sweeps/a",
        "teacher.digits_cnn.checkpoint=built",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (trial,) = (tmp_path / "runs" / "sweeps").rglob("summary.json")
    (folder,) = json.loads(trial.read_text())["folders"]["distilled"]
    record = json.loads((tmp_path / folder / "result.json").read_text())
    best = OmegaConf.load(tmp_path / "runs" / "sweeps" / "a" / "optimization_results.yaml").best_params
    assert record["config"]["loss"]["kd"]["weight"] == best["loss.kd.weight"]
    assert record["history"][0]["schedule/kd.temperature"] == best["scheduler.temperature.start"]
    # one training of two ranks, not two trainings
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 1
