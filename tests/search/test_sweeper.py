"""hydra/sweeper=optuna: which trials it asks for, what it tells the study, how it goes on; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from distill.config import CONF
from distill.search.study import opened

optuna = pytest.importorskip("optuna", reason="the extra distill[optuna] is not installed")
from optuna.trial import TrialState  # noqa: E402

STORAGE = "journal:///s.log"  # quicker to make than a database
SPACE = ["optimizer.lr=tag(log,interval(0.01,1.0))", "loss.kd.weight=choice(0.5,1,2)"]
Answer = Callable[[int, dict[str, Any]], "dict[str, Any] | BaseException"]


class Launcher:
    """Stands for a launcher: answers for each cell at once, and remembers what it was asked."""

    def __init__(self, config: DictConfig, answer: Answer) -> None:
        self.config, self.answer = config, answer
        self.batches: list[list[int]] = []
        self.drawn: dict[int, tuple[Any, Any]] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        jobs = []
        self.batches.append([])
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            cell = {one.key_or_group: one.value() for one in parsed}
            folder = Path(self.config.hydra.sweep.dir) / str(number)
            assert cell["trial"]["number"] == number
            self.batches[-1].append(number)
            self.drawn[number] = (cell["optimizer.lr"], cell.get("loss.kd.weight"))
            job = JobReturn(working_dir=str(folder), status=JobStatus.COMPLETED)
            found = self.answer(number, cell)
            if isinstance(found, BaseException):
                if not isinstance(found, Exception):
                    raise found
                job.status, job.return_value = JobStatus.FAILED, found
            else:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "summary.json").write_text(json.dumps(found))
            jobs.append(job)
        return jobs


@pytest.fixture
def loader() -> Iterator[Any]:
    kept = HydraConfig.instance().cfg
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
    HydraConfig.instance().cfg = kept


@pytest.fixture
def search(loader: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Launcher]:
    """Run a search in a folder and return the launcher that it used."""
    monkeypatch.chdir(tmp_path)

    def run(answer: Answer, *typed: str, space: Sequence[str] = SPACE) -> Launcher:
        settings = ["hydra/sweeper=optuna", f"hydra.sweeper.storage={STORAGE}", *typed]
        config = loader.load_configuration("train", [*settings, *space], run_mode=RunMode.MULTIRUN)
        config.hydra.mode = RunMode.MULTIRUN
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        used = Launcher(config, answer)
        monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: used)
        sweeper = Plugins.instance().instantiate_sweeper(
            config=config, hydra_context=context, task_function=lambda cfg: None
        )
        sweeper.sweep([o for o in [*typed, *space] if not o.startswith(("hydra.", "hydra/"))])
        return used

    return run


def good(number: int, cell: dict[str, Any]) -> dict[str, Any]:
    return {"val_accuracy": 100 * cell["optimizer.lr"]}


def study() -> Any:
    storage = opened(STORAGE)
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_sweep__batches_and_best(search: Callable[..., Launcher], tmp_path: Path) -> None:
    used = search(good, "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2", "hydra.sweep.dir=a")
    assert used.batches == [[0, 1], [2, 3], [4]]
    assert len(set(used.drawn.values())) == 5
    best = OmegaConf.load(tmp_path / "a" / "optimization_results.yaml")
    assert best.best_params["optimizer.lr"] == max(lr for lr, _ in used.drawn.values())
    assert best.best_value == pytest.approx(100 * best.best_params["optimizer.lr"])
    assert [trial.value for trial in study().trials] == [100 * used.drawn[n][0] for n in range(5)]


@pytest.mark.slow
def test_sweep__goes_on_as_if_it_had_not_been_killed(search: Callable[..., Launcher], tmp_path: Path) -> None:
    n = ["hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.n_startup_trials=2"]
    whole = search(good, *n, "hydra.sweeper.storage=journal:///whole.log", "hydra.sweep.dir=whole")

    def killed(number: int, cell: dict[str, Any]) -> dict[str, Any] | BaseException:
        return KeyboardInterrupt() if number == 3 else good(number, cell)

    with pytest.raises(KeyboardInterrupt):
        search(killed, *n, "hydra.sweep.dir=a")
    assert study().trials[3].state == TrialState.RUNNING
    again = search(good, *n, "hydra.sweep.dir=elsewhere")
    assert again.batches == [[3], [4], [5]]  # under its own number, and in its own folder
    assert {number: whole.drawn[number] for number in range(3, 6)} == again.drawn
    assert (tmp_path / "a" / "5" / "summary.json").exists()
    assert not (tmp_path / "elsewhere").exists()
    assert search(good, *n).batches == []
    assert search(good, "hydra.sweeper.n_trials=7", n[1]).batches == [[6]]


def test_sweep__another_config_or_space_is_another_study(search: Callable[..., Launcher], tmp_path: Path) -> None:
    for i, more in enumerate(["seed=0", "seed=1", "quiet=true"]):
        search(good, "hydra.sweeper.n_trials=1", f"hydra.sweep.dir={i}", more)
    search(good, "hydra.sweeper.n_trials=1", "hydra.sweep.dir=3", space=SPACE[:1])
    assert len(optuna.get_all_study_names(opened(STORAGE))) == 3  # quiet=true decides nothing
    assert sorted(path.parent.name for path in tmp_path.glob("*/search.json")) == ["0", "1", "3"]


def test_sweep__failed_and_pruned_cells(search: Callable[..., Launcher], capsys: pytest.CaptureFixture[str]) -> None:
    def answer(number: int, cell: dict[str, Any]) -> dict[str, Any] | BaseException:
        if number == 1:
            return RuntimeError("no memory")
        return {"status": "pruned", "reason": "pruned after epoch 3"} if number == 2 else good(number, cell)

    used = search(answer, "hydra.sweeper.n_trials=4", "hydra.sweep.dir=a")
    states = [trial.state for trial in study().trials]
    assert states == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.COMPLETE]
    assert used.batches == [[0], [1], [2], [3]]
    said = capsys.readouterr().err
    assert "trial 1: failed: no memory" in said
    assert "2 complete, 1 pruned, 1 fail" in said
    assert search(good, "hydra.sweeper.n_trials=4").batches == []  # a failed one is not tried again


def test_sweep__ends_where_a_cell_was_interrupted(search: Callable[..., Launcher]) -> None:
    from distill.commands.train import CellInterrupted

    with pytest.raises(CompactHydraException, match="the same command goes on"):
        search(lambda number, cell: CellInterrupted("stopped by SIGTERM"), "hydra.sweep.dir=a")
    assert [trial.state for trial in study().trials] == [TrialState.RUNNING]


def test_sweep__says_when_nothing_completed(search: Callable[..., Launcher]) -> None:
    with pytest.raises(CompactHydraException, match="no trial of search-.* completed"):
        search(lambda number, cell: RuntimeError("no"), "hydra.sweeper.n_trials=2", "hydra.sweep.dir=a")


def test_sweep__several_objectives(search: Callable[..., Launcher], tmp_path: Path) -> None:
    def answer(number: int, cell: dict[str, Any]) -> dict[str, Any]:
        accuracy, flops = [(90, 5e6), (80, 6e6), (95, 9e6)][number]
        return {"val_accuracy": accuracy, "flops": flops}

    search(
        answer, "hydra.sweeper.n_trials=3", "hydra.sweep.dir=a", "hydra.sweeper.objectives=[val_accuracy,flops]",
        "hydra.sweeper.directions=[maximize,minimize]",
    )  # fmt: skip
    solutions = OmegaConf.load(tmp_path / "a" / "optimization_results.yaml").solutions
    assert sorted(list(s["values"]) for s in solutions) == [[90.0, 5e6], [95.0, 9e6]]


@pytest.mark.parametrize("sampler", ["random", "nsgaii", "gp"])
def test_sweep__with_each_sampler(sampler: str, search: Callable[..., Launcher]) -> None:
    more = ["hydra.sweeper.sampler.n_startup_trials=2"] if sampler == "gp" else []
    used = search(good, f"hydra/sweeper/sampler={sampler}", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=a", *more)
    assert len(set(used.drawn.values())) == 3


def test_sweep__sqlite_in_the_sweep_s_own_folder(search: Callable[..., Launcher], tmp_path: Path) -> None:
    settings = ["hydra.sweeper.storage=null", "hydra.sweeper.n_trials=1", "hydra.sweep.dir=a"]
    assert search(good, *settings).batches == [[0]]
    assert (tmp_path / "a" / "study.db").stat().st_size > 0
    assert search(good, *settings).batches == []


@pytest.mark.parametrize(
    "typed, sentence",
    [
        ("hydra.sweeper.objectives=[top5]", "top5 is none; choose among val_accuracy"),
        ("hydra.sweeper.directions=[up]", "give one of maximize or minimize for each"),
        ("hydra.sweeper.n_jobs=0", "n_jobs=0: must be a whole number"),
        ("hydra.sweeper.storage=sqlite://", "write sqlite:///FILE"),
        ("dataset.val_fraction=0", "hold some out"),
        ("+hydra.sweeper.sampler.sed=1", "sed"),
    ],
)
def test_sweep__refuses(typed: str, sentence: str, search: Callable[..., Launcher], tmp_path: Path) -> None:
    with pytest.raises(CompactHydraException, match=sentence):
        search(good, typed, "hydra.sweep.dir=a")
    assert not list(tmp_path.glob("**/s.log"))


def test_sweep__refuses_no_space(search: Callable[..., Launcher]) -> None:
    with pytest.raises(CompactHydraException, match="nothing to search"):
        search(good, space=[])
