"""The shipped searches, each run small on the default task, with what `distill table` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from distill.cli import main
from distill.config import CONF
from distill.records import read_json

pytest.importorskip("optuna", reason="the extra distill[optuna] is not installed")

SMALL = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "quiet=true", "hydra.sweeper.n_trials=3"]
MORE = {
    "temperature_weight": ["hydra.sweeper.pruner.n_startup_trials=1", "hydra.sweeper.pruner.n_warmup_steps=1"],
    "architecture": ["student.depth=8,14", "student.width=int(interval(4,8))"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "search").glob("*.yaml")))
def test_search__runs_and_is_summarised(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "-m", f"+search={name}", *SMALL, *MORE.get(name, []), "hydra.sweep.dir=sweep"]
    assert main(words) == 0, capsys.readouterr().err
    summaries = [read_json(path) for path in sorted(Path("sweep").glob("*/summary.json"))]
    assert len(summaries) == 3
    complete = [s for s in summaries if s is not None and s["status"] == "complete"]
    best = OmegaConf.load("sweep/optimization_results.yaml")
    values = [best.best_value] if name != "architecture" else [s["values"][0] for s in best.solutions]
    assert max(s["val_accuracy"] for s in complete) == pytest.approx(max(values))
    assert all(list(s["accuracy"]) == ["distilled"] for s in complete)
    capsys.readouterr()
    assert main(["table", "sweep"]) == 0
    table = capsys.readouterr().out
    assert f"again: distill train +search={name}" in table
    assert "trial=" not in table
    assert ("Pareto front" in table) == (name == "architecture")
    if name == "architecture":
        assert max(s["flops"] for s in complete) > min(s["flops"] for s in complete)
    before = {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")} == before
