"""Launchers for more than one machine, as far as one machine can test them: each trains two cells of a sweep."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from distill.cli import main
from distill.commands.preflight import look, parsed
from distill.config import CONF

SMALL = [
    "trainer.max_epochs=1", "trainer.accelerator=cpu", "alone=false", "seeds=1", "quiet=true", "dataset.train_size=80",
    "teacher.digits_cnn.checkpoint=built",
]  # fmt: skip
NEEDS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_ray_launcher", "ray"),
}


def _skip_without(launcher: str) -> None:
    package, extra = NEEDS[launcher]
    if importlib.util.find_spec(f"hydra_plugins.{package}") is None:
        pytest.skip(f"the extra distill[{extra}] is not installed")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["submitit_local", "ray"])
def test_sweep__two_cells(launcher: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _skip_without(launcher)
    monkeypatch.chdir(tmp_path)
    more = ["hydra.launcher.timeout_min=10"] if launcher == "submitit_local" else []
    assert (
        main(
            ["train", "-m", f"hydra/launcher={launcher}", *more, *SMALL, "loss.kd.weight=1,2", "hydra.sweep.dir=sweep"]
        )
        == 0
    )
    for number, weight in enumerate((1, 2)):
        (folder,) = json.loads(Path(f"sweep/{number}/summary.json").read_text())["folders"]["distilled"]
        record = json.loads((tmp_path / folder / "result.json").read_text())
        assert (record["status"], record["config"]["loss"]["kd"]["weight"]) == ("complete", weight)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_search__through_joblib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two trials at a time in processes of their own, one of which fails; folders in full, for workers are kept."""
    _skip_without("joblib")
    pytest.importorskip("optuna", reason="the extra distill[optuna] is not installed")
    monkeypatch.chdir(tmp_path)
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "loss.kd.weight=1,1e38"]
    places = [f"hydra.sweep.dir={tmp_path}/sweep", f"out={tmp_path}/runs", "hydra.sweeper.sampler.seed=1"]
    assert main(["train", "-m", "hydra/launcher=joblib", *SMALL, *search, *places]) == 0
    best = OmegaConf.load("sweep/optimization_results.yaml")
    assert best.best_params["loss.kd.weight"] == 1
    (summary,) = [json.loads(path.read_text()) for path in Path("sweep").glob("*/summary.json")]
    assert summary["val_accuracy"] == best.best_value


@pytest.mark.parametrize("path", sorted((CONF / "hydra" / "launcher").glob("*.yaml")), ids=lambda p: p.stem)
def test_launcher__of_several_nodes_composes(path: Path) -> None:
    _skip_without({"slurm": "submitit_local", "ray_cluster": "ray"}[path.stem])
    words = ["-m", f"hydra/launcher={path.stem}", "trainer.devices=4", "+trainer.num_nodes=2", "seed=0,1"]
    assert look(parsed(words), checks=False).mistakes == []


def test_launcher__slurm_asks_for_a_task_a_device() -> None:
    _skip_without("submitit_local")
    from distill.commands.composing import Composer

    with Composer() as composer:
        given = composer.full(["hydra/launcher=slurm", "trainer.devices=4", "+trainer.num_nodes=2"]).hydra.launcher
        one = composer.full(["hydra/launcher=slurm"]).hydra.launcher
    assert (given.nodes, given.tasks_per_node, given.gpus_per_node) == (2, 4, 4)
    assert (one.nodes, one.tasks_per_node, one.gpus_per_node) == (1, 1, 1)
    assert given.max_num_timeout > 0


@pytest.mark.parametrize("launcher, extra", [("ray_cluster", "ray"), ("slurm", "slurm"), ("joblib", "joblib")])
def test_launcher__names_the_extra_that_is_missing(launcher: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if "hydra_plugins." in name else known(name, *rest)
    )
    found = look(parsed(["-m", f"hydra/launcher={launcher}", "seed=0,1"]), checks=False)
    assert found.mistakes == [f"hydra/launcher={launcher}: needs a plugin of Hydra; pip install 'distill[{extra}]'"]
