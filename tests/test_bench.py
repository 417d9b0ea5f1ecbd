"""Every benchmark runs on tiny networks and says what it compared; how long things took is not looked at."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.bench import BENCHES, main, peers
from distill.bench.losses import names
from distill.bench.tensors import peak_of_tensors
from distill.bench.work import EPOCH, in_an_epoch
from distill.config import CONF, ConfigError

TINY = [
    "student=digits_tiny", "teacher=[digits_cnn]", "dataset.image_size=[16,16]", "dataset.batch_size=8",
    "dataset.num_classes=10", "--rounds", "1", "--steps", "2",
]  # fmt: skip
CASES = {
    "step": ({"step: bare loop", "step: distill"}, {"step: ratio"}),
    "epoch": ({"distill", "distill, cached"}, {"distill, cached / distill"}),
    "memory": (
        {"bare loop", "bare loop: after imports", "bare loop, torch alone", "distill", "distill: after imports"},
        {"total", "after imports", "total / torch alone"},
    ),
    "students": ({"one by one", "together"}, {"throughput, at least"}),
    "sweep": ({"online", "one cache"}, {"throughput, at least"}),
}
SLOW = ("memory", "students", "sweep")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES])
def test_bench__prints_and_records_every_side_and_ratio(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("distill.bench.epoch._computes_bf16", lambda: False)
    path = tmp_path / "record.json"
    assert main([name, *TINY, "--record", str(path)]) == 0
    said, record = capsys.readouterr().out, json.loads(path.read_text())
    sides, ratios = CASES[name]
    assert set(record["rounds"]) == sides
    assert all(len(values) == 1 for values in record["rounds"].values())
    assert set(record["ratios"]) == ratios
    assert record["command"].startswith(f"distill bench {name} student=digits_tiny")
    assert all(side in said for side in sides | ratios)


@pytest.mark.slow
def test_losses__a_line_for_each_with_time_memory_and_factor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("distill.bench.losses.SIZES", (4, 8))
    path = tmp_path / "record.json"
    small = [
        "loss=[fitnet,rkd]",
        "loss.rkd.vertices=2",
        "student=resnet8",
        "teacher=[resnet14]",
        "dataset.image_size=[16,16]",
        "--rounds",
        "1",
        "--steps",
        "1",
    ]
    assert main(["losses", *small, "--record", str(path)]) == 0
    said, record = capsys.readouterr().out, json.loads(path.read_text())
    sides = {f"{name}, batch {size}" for name in ("kd", "fitnet", "rkd") for size in (4, 8)}
    assert set(record["memory_mib"]) == sides
    assert set(record["rounds"]) == sides | {f"kd beside {side}" for side in sides if not side.startswith("kd")}
    assert {f"{side} / kd" for side in sides} == set(record["ratios"])
    assert record["ratios"]["kd, batch 8 / kd"]["median"] == 1
    # FitNet holds at least the regressed map, 32 channels of 8 x 8, for the backward pass
    assert record["memory_mib"]["fitnet, batch 8"] > 8 * 32 * 8 * 8 * 4 / 2**20
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["kd", "fitnet", "rkd"]


def test_losses__names_all_of_the_group_and_leaves_out_with_a_reason(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert names()[0] == "kd"
    assert set(names()) == {path.stem for path in (CONF / "loss").glob("*.yaml")}
    monkeypatch.setattr("distill.bench.losses.SIZES", (2,))
    perceptron = "student._target_=distill.bench.work.perceptron"  # has no stages
    few = [
        "loss=[fitnet]",
        perceptron,
        "+student.hidden=4",
        "~student.channels",
        "teacher=[resnet8]",
        "dataset.image_size=[8,8]",
        "dataset.channels=1",
    ]
    few += ["dataset.mean=[0.5]", "dataset.std=[0.5]"]
    assert main(["losses", *few, "--rounds", "1", "--steps", "1"]) == 0
    assert "left out: fitnet: no tap 'stage2'" in capsys.readouterr().out


@pytest.mark.slow
def test_losses__that_look_at_further_views(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.bench.losses.SIZES", (4,))
    small = ["loss=[mlkd,sskd,hsakd,semckd]", "student=resnet8", "teacher=[resnet14]", "dataset.image_size=[16,16]"]
    assert main(["losses", *small, "--rounds", "1", "--steps", "1"]) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["kd", "hsakd", "mlkd", "semckd", "sskd"]


def test_peak_of_tensors__by_hand() -> None:
    x = torch.zeros(256, requires_grad=True)

    def step() -> None:
        x.grad = None
        y = x.exp()  # kept for the backward pass
        z = y + 1  # gone at once
        del z
        (y * 2).sum().backward()  # at the peak: y, 2 y and what z was, or y and the gradients of both

    one = 4 * 256
    assert 3 * one <= peak_of_tensors(step) <= 3 * one + 64
    held = []
    assert peak_of_tensors(lambda: held.extend(torch.ones(256) for _ in range(3))) == 3 * one
    assert peak_of_tensors(lambda: [torch.ones(256) for _ in range(1)].clear()) == one


def test_report__is_what_the_kept_records_say(capsys: pytest.CaptureFixture[str]) -> None:
    kept = Path(__file__).parents[1] / "experiments" / "performance"
    assert main(["report", str(kept)]) == 0
    table = capsys.readouterr().out.strip()
    assert len(table.splitlines()) > 10
    assert table in (kept / "README.md").read_text()


def test_benches__each_has_a_module_that_measures() -> None:
    folder = Path(peers.__file__).parents[1]
    assert all("def measure(" in (folder / f"{name}.py").read_text() for name in BENCHES)


def test_in_an_epoch__what_an_epoch_costs_once_counts_as_in_a_whole_one() -> None:
    assert in_an_epoch(lambda steps: 5.0 + 0.25 * steps, 4) == pytest.approx(1e3 * (5.0 + 0.25 * EPOCH) / EPOCH)


def test_peers__a_mistake_in_the_command_line_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of mdistiller, repdistiller, torchdistill"):
        peers.named([f"mdistil={tmp_path}"])
    with pytest.raises(ConfigError, match="no such folder"):
        peers.named([f"mdistiller={tmp_path / 'none'}"])


@pytest.mark.slow
def test_ask__a_peer_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    work = peers.Work(str(tmp_path), {}, {}, 8, 1, 1, "cpu")
    images = tmp_path / "images.npz"
    np.savez(images, images=np.zeros((8, 32, 32, 3), np.uint8), targets=np.zeros(8, np.int64))
    with pytest.raises(ConfigError, match="--peer repdistiller=.*No module named 'dataset'"):
        peers.ask("repdistiller", work, images)


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("loss=[typo]", "In 'train': Could not load 'loss/typo'.\n"),
        ("sed=3", "Could not override 'sed'.\n"),
        ("trainer.devices=${nowhere}", "Interpolation key 'nowhere' not found\n"),
    ],
)
def test_main__one_line_for_a_wrong_override(override: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", override, "--rounds", "1", "--steps", "1"]) == 2
    assert capsys.readouterr().err == sentence
