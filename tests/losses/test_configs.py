"""Every loss and schedule has its yaml, every yaml its class; and the two groups compose."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from distill.losses.base import Loss
from distill.objective import Objective
from distill.schedules.adaptive import Adaptive
from distill.schedules.base import Progress, Schedule

from .settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
LOSSES = sorted((ROOT / "conf" / "loss").glob("*.yaml"))
SCHEDULES = sorted((ROOT / "conf" / "scheduler").glob("*.yaml"))
WEIGHTS = ("warmup", "linear_weight", "cosine_weight", "step_weight", "squared_weight", "first_stage", "second_stage")
PRIMARY = """
defaults:
  - scheduler: [linear_temperature]
  - loss: [ce, kd]
  - _self_
teacher: {mine: {}}
"""


def stem(path: Path) -> str:
    return path.stem


def modules(package: str, *kinds: type) -> set[str]:
    """Name the files that define a class of a kind which can be made, and not only what several of them share."""
    found = set()
    for path in (ROOT / "distill" / package).glob("*.py"):
        module = importlib.import_module(f"distill.{package}.{path.stem}")
        own = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
        if any(issubclass(c, kinds) and not inspect.isabstract(c) for c in own):
            found.add(path.stem)
    return found


def locate(target: str) -> type:
    module, name = target.rsplit(".", 1)
    found: type = getattr(importlib.import_module(module), name)
    return found


def arguments(target: str) -> set[str]:
    return set(inspect.signature(locate(target)).parameters)


@pytest.fixture
def config(tmp_path: Path):
    (tmp_path / "primary.yaml").write_text(PRIMARY)

    def composed(*overrides: str) -> dict[str, Any]:
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            cfg = compose("primary", [f"hydra.searchpath=[file://{ROOT / 'conf'}]", *overrides])
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        return plain

    return composed


def objective(terms: dict[str, Any]) -> Objective:
    """Build as a run does: the weight belongs to the objective, everything else to the loss."""
    losses = {k: instantiate({a: v for a, v in t.items() if a != "weight"}, _convert_="all") for k, t in terms.items()}
    weights = {
        k: instantiate(t["weight"], _convert_="all") if isinstance(t["weight"], dict) else t["weight"]
        for k, t in terms.items()
    }
    return Objective(losses, weights)


def test_losses__each_file_has_its_yaml_and_a_setting() -> None:
    assert modules("losses", Loss) == {p.stem for p in LOSSES} == {s.name for s in SETTINGS}


def test_schedules__each_file_is_the_target_of_a_yaml() -> None:
    targets = {node["_target_"] for p in SCHEDULES for node in yaml.safe_load(p.read_text()).values()}
    assert modules("schedules", Schedule, Adaptive) == {t.split(".")[-2] for t in targets}


@pytest.mark.parametrize("path", LOSSES, ids=stem)
def test_loss_yaml__one_key_and_every_argument(path: Path) -> None:
    text = yaml.safe_load(path.read_text())
    assert list(text) == [path.stem]
    node = text[path.stem]
    assert node["_target_"].startswith(f"distill.losses.{path.stem}.")
    assert issubclass(locate(node["_target_"]), Loss)
    assert set(node) - {"_target_"} == arguments(node["_target_"]) | {"weight"}
    assert len(path.read_text().splitlines()) < 25


@pytest.mark.parametrize("path", SCHEDULES, ids=stem)
def test_schedule_yaml__one_key_and_every_argument(path: Path) -> None:
    text = yaml.safe_load(path.read_text())
    assert list(text) == [path.stem if path.stem in WEIGHTS else "temperature"]
    node = next(iter(text.values()))
    assert issubclass(locate(node["_target_"]), Schedule | Adaptive)
    assert set(node) - {"_target_"} == arguments(node["_target_"])


@pytest.mark.parametrize("path", LOSSES, ids=stem)
@pytest.mark.slow
def test_loss_yaml__composes_and_builds(path: Path, config) -> None:
    built = objective(config(f"loss=[{path.stem}]")["loss"])
    assert built.names == [path.stem]
    assert isinstance(built.losses[path.stem], Loss)


@pytest.mark.parametrize("path", [p for p in SCHEDULES if p.stem not in WEIGHTS], ids=stem)
def test_temperature_yaml__moves_kd(path: Path, config) -> None:
    built = objective(config(f"scheduler=[{path.stem}]")["loss"])
    assert built.names == ["ce", "kd"]
    if isinstance(built.losses["kd"].temperature, Adaptive):
        assert built.adaptive == {"kd.temperature": built.losses["kd"].temperature}
        assert built.adaptive["kd.temperature"].low > 0
        return
    for fraction in (0.0, 0.5, 1.0):
        built.set_progress(Progress(fraction))
        assert built.values.keys() == {"kd.temperature"}
        assert built.losses["kd"].temperature == built.values["kd.temperature"] > 0


@pytest.mark.parametrize("name", WEIGHTS)
def test_weight_yaml__moves_a_weight(name: str, config) -> None:
    cfg = config(f"scheduler=[linear_temperature,{name}]", "loss=[ce,dkd]", f"loss.dkd.weight=${{scheduler.{name}}}")
    built = objective(cfg["loss"])
    assert built.values.keys() == {"dkd.temperature", "dkd.weight"}
    built.set_progress(Progress(1.0, epoch=240, epochs=240))
    assert built.weights == {"ce": 1.0, "dkd": built.values["dkd.weight"]}


def test_linear_temperature__is_five_to_one(config) -> None:
    cfg = config()
    assert cfg["scheduler"].keys() == {"temperature"}
    built = objective(cfg["loss"])
    assert built.values == {"kd.temperature": 5.0}
    built.set_progress(Progress(1.0))
    assert built.values == {"kd.temperature": 1.0}


def test_overrides__reach_loss_and_schedule(config) -> None:
    cfg = config("loss=[ce,dkd]", "loss.dkd.beta=2", "loss.ce.weight=0.1", "scheduler.temperature.start=8")
    built = objective(cfg["loss"])
    assert built.losses["dkd"].beta == 2
    assert built.losses["dkd"].temperature == 8.0
    assert built.weights == {"ce": 0.1, "dkd": 1.0}


def test_overrides__one_loss_off_the_shared_schedule(config) -> None:
    built = objective(config("loss=[ce,kd,dist]", "loss.dist.temperature=4")["loss"])
    assert built.values == {"kd.temperature": 5.0}
    assert built.losses["dist"].temperature == 4
