"""Loggers, read back from what they left on disk."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml

from distill import loggers
from distill.cli import main
from distill.commands.preflight import look, parsed
from distill.comparison import run
from distill.config import ConfigError, build, compose, resolved
from distill.fit import fit, folder_of
from distill.loggers import TensorBoard, WandB
from tests.test_pointing import VQA

SMALL = ["seeds=1",
    "dataset=digits", "trainer.max_epochs=3", "trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "quiet=true",
    "tags=[paper]",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_GROUP", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)


def read_wandb(path: Path) -> Iterator[Any]:
    """Give the records of a .wandb file: protocol buffers in the LevelDB log format, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


class Logged:
    """One offline W&B run, as it would be sent."""

    def __init__(self, path: Path) -> None:
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.exit: int | None = None
        for record in read_wandb(path):
            if record.HasField("run"):
                self.run = record.run
                self.config = {u.key: json.loads(u.value_json) for u in record.run.config.update}
            elif record.HasField("history"):
                row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                self.history.append(row)
            elif record.HasField("summary"):
                for item in record.summary.update:
                    self.summary[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
            elif record.HasField("exit"):
                self.exit = record.exit.exit_code

    def series(self, key: str) -> list[float]:
        return [row[key] for row in self.history if key in row]


def _logged(folder: Path) -> list[Logged]:
    wandb.teardown()  # on a busy machine the last of a file is only written when the service ends
    return [Logged(path) for path in sorted(folder.rglob("offline-run-*/run-*.wandb"))]


@pytest.mark.slow
def test_wandb__offline_runs_hold_everything_and_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "my-sweep")
    words = [*SMALL, f"out={tmp_path / 'runs'}", "logger=wandb", "logger.tags=[mine]"]
    result = run(compose(words), words)
    import wandb

    assert wandb.run is None
    found = {logged.run.run_id: logged for logged in _logged(tmp_path)}
    assert len(found) == 3  # teacher, student alone, student distilled: three trainings of one process
    record = result.arms["distilled"][0]
    logged = found[record["fingerprint"]]
    assert logged.run.display_name == record["label"]
    assert (logged.run.project, logged.run.run_group, logged.run.job_type) == ("distill", "my-sweep", "distilled")
    assert list(logged.run.tags) == ["paper", "mine"]
    assert logged.config["loss"]["kd"]["weight"] == record["config"]["loss"]["kd"]["weight"]
    assert logged.config["git"] == record["git"]
    assert logged.config["code"] == record["code"]
    for key in record["history"][0].keys() - {"epoch", "step", "seconds"}:
        expected = [row[key] for row in record["history"]]
        assert logged.series(key) == pytest.approx(expected, rel=1e-6), key
    for key in ("loss/ce", "loss/kd", "schedule/kd.temperature", "lr", "train/agreement", "train/grad_norm",
                "train/accuracy", "val/accuracy", "test/accuracy"):  # fmt: skip
        assert len(logged.series(key)) == 3, key
    assert logged.series("schedule/kd.temperature") == [5.0, 3.0, 1.0]
    assert logged.summary["final/agreement"] == pytest.approx(record["test"]["agreement"])
    assert logged.summary["status"] == "complete"
    assert logged.exit == 0


@pytest.mark.slow
def test_wandb__failed_run_is_closed_as_failed(tmp_path: Path) -> None:
    words = [*SMALL, f"out={tmp_path / 'runs'}", "logger=wandb", "teacher=[]", "loss=[ce]", "optimizer.lr=1e30"]
    with pytest.raises(RuntimeError, match="not finite"):
        run(compose(words), words)
    (logged,) = _logged(tmp_path)
    assert logged.exit == 1
    assert logged.summary["status"] == "failed"
    assert "loss/ce is not finite" in logged.summary["error"]


@pytest.mark.slow
def test_wandb__overlays_are_media_of_the_run(tmp_path: Path) -> None:
    cfg = resolved(compose([*VQA, "loss=[ce,kd]", "overlays=2", "logger=wandb", "logger.mode=offline",
                            f"out={tmp_path}"]))  # fmt: skip
    fit(cfg, [], "questions")
    (logged,) = _logged(tmp_path)
    folder = folder_of(cfg)
    for name in ("before", "last"):
        (sent,) = [row for row in logged.history if f"overlays/{name}/_type" in row]
        assert (sent[f"overlays/{name}/_type"], sent[f"overlays/{name}/count"]) == ("images/separated", 1)
        (file,) = sent[f"overlays/{name}/filenames"]
        (media,) = folder.glob(f"wandb/offline-run-*/files/{file}")
        assert media.read_bytes() == (folder / "overlays" / f"{name}.png").read_bytes()


def test_tensorboard__event_file_holds_every_number(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = [*SMALL, f"out={tmp_path / 'runs'}", "logger=tensorboard", "teacher=[]", "loss=[ce]"]
    result = run(compose(words), words)
    record = result.arms["alone"][0]
    read = event_accumulator.EventAccumulator(str(Path(result.folders["alone"][0]) / "tensorboard"))
    read.Reload()
    for key in record["history"][0].keys() - {"epoch", "step", "seconds"}:
        expected = [row[key] for row in record["history"]]
        assert [event.value for event in read.Scalars(key)] == pytest.approx(expected, rel=1e-6), key
    text = read.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text)["fingerprint"] == record["fingerprint"]


def _record(**config: Any) -> dict[str, Any]:
    return {
        "label": "digits-tiny-ce+kd-s3", "fingerprint": "0123456789", "config": {"teacher": {}, "tags": [], **config}
    }  # fmt: skip


def _wandb(**changes: Any) -> WandB:
    arguments: dict[str, Any] = {"project": "p", "entity": None, "group": None, "tags": [], "mode": "auto"}
    return WandB(**{**arguments, "notes": None, **changes})


def test_wandb__group_without_a_sweep_is_all_but_the_seed(tmp_path: Path) -> None:
    made: Any = _wandb()(tmp_path, _record())
    assert made._wandb_init["group"] == "digits-tiny-ce+kd"
    assert made._wandb_init["job_type"] == "alone"
    made = _wandb(group="g")(tmp_path, _record(teacher={"big": {}}))
    assert (made._wandb_init["group"], made._wandb_init["job_type"]) == ("g", "distilled")


def test_wandb__rerun_is_another_run(tmp_path: Path) -> None:
    assert _wandb()(tmp_path, _record()).version == "0123456789"
    again = _wandb()(tmp_path, _record(rerun=True)).version
    assert str(again).startswith("0123456789-2")


@pytest.mark.parametrize(
    "environment, mode, expected",
    [
        ({}, "auto", "offline"),
        ({"WANDB_API_KEY": "x" * 40}, "auto", "online"),
        ({"WANDB_API_KEY": "x" * 40, "WANDB_MODE": "disabled"}, "auto", "disabled"),
        ({"WANDB_API_KEY": "x" * 40}, "offline", "offline"),
        ({}, "online", "online"),
    ],
)
def test_wandb__mode(
    environment: dict[str, str], mode: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made: Any = _wandb(mode=mode)(tmp_path, _record())
    assert made._wandb_init["mode"] == expected


def test_logged_in__reads_netrc(tmp_path: Path) -> None:
    assert not loggers.logged_in()
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    netrc.chmod(0o600)
    assert loggers.logged_in()


def test_wandb__refuses_another_mode() -> None:
    node = compose(["logger=wandb", "logger.mode=onlin"])["logger"]
    with pytest.raises(ConfigError, match="logger: mode=onlin: choose one of auto, online, offline, disabled"):
        build(node, "logger")


def test_tensorboard__names_the_extra_when_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs the package tensorboard: pip install 'distill\[tensorboard\]"
    ):
        TensorBoard(flush_secs=1)


class TestSweep:
    """What an agent of a W&B sweep runs, from the shipped file."""

    FILE = Path(__file__).parents[1] / "experiments" / "wandb_sweep.yaml"

    def words(self) -> list[str]:
        """Return the command line as the agent fills it in, for one choice of each parameter."""
        from wandb.sdk.launch.sweeps.utils import create_sweep_command_args, make_launch_sweep_entrypoint

        sweep = yaml.safe_load(self.FILE.read_text())
        drawn = {
            key: {"value": p["values"][0] if "values" in p else p["max"]} for key, p in sweep["parameters"].items()
        }
        given = create_sweep_command_args({"args": drawn})
        entry, arguments = make_launch_sweep_entrypoint(given, sweep["command"])
        assert entry is not None
        assert entry[:3] == ["${env}", "distill", "train"]
        return [*entry[3:], *arguments]

    @pytest.mark.slow
    def test_command__composes_and_has_the_values(self) -> None:
        found = look(parsed(self.words()), checks=False)
        assert found.mistakes == []
        config = found.cells[0].config
        assert config["optimizer"]["lr"] == 0.02
        assert config["scheduler"]["temperature"]["start"] == 20.0
        assert config["loss"]["kd"]["weight"] == 10.0

    @pytest.mark.slow
    def test_command__logs_the_metric_to_the_run_of_the_agent(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wandb.teardown()  # it reads the environment once a process, and an agent has set it before
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
        monkeypatch.setenv("WANDB_RUN_ID", "agents-run")
        monkeypatch.setenv("WANDB_MODE", "offline")
        few = ["trainer.max_epochs=1", "trainer.accelerator=cpu", f"out={tmp_path}"]
        assert main(["train", *self.words(), *few]) == 0
        (logged,) = _logged(tmp_path)  # the teacher was trained too, and is no run of the sweep
        assert (logged.run.run_id, logged.run.sweep_id) == ("agents-run", "sweep1")
        metric = yaml.safe_load(self.FILE.read_text())["metric"]["name"]
        assert len(logged.series(metric)) == 1
