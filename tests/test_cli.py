"""The command line as a user meets it: help, a comparison, what is kept, sweeps, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.cli import COMMANDS, main
from distill.records import RESULT, Record

TINY = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "dataset.train_size=300"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help__needs_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from distill.cli import main\nfor a in (['--help'], ['train', '--help']): assert main(a) == 0\n"
    code += "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for text in (*COMMANDS, "student", "resnet8x4", "linear_temperature", "image_folder", "seeds=3", "--config-dir"):
        assert text in done.stdout


def test_main__unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'?" in capsys.readouterr().err
    assert main(["student=resnet20"]) == 2
    assert "distill train student=resnet20" in capsys.readouterr().err


def test_train__ends_with_a_table_and_keeps_everything(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "seeds=2"]) == 0
    out = capsys.readouterr().out
    for text in ("teacher digits_cnn", "student alone", "student distilled", " ± ", "5.18 k", "by seed", "curves"):
        assert text in out
    (summary,) = here.glob("runs/jobs/*/summary.json")
    assert (summary.parent / "curves.png").stat().st_size > 10_000
    found = json.loads(summary.read_text())
    gains = [_accuracy(d) - _accuracy(a) for d, a in zip(*(found["folders"][k] for k in ("distilled", "alone")))]  # noqa: B905
    assert found["gain"]["mean"] == pytest.approx(sum(gains) / 2)
    assert found["seeds"] == [0, 1]
    for folder in sum(found["folders"].values(), []):
        kept = {path.name for path in Path(folder).iterdir()}
        assert {"result.json", "metrics.csv", "student.safetensors", "checkpoints"} <= kept
    assert not [p for p in here.iterdir() if p.name != "runs"]


def _accuracy(folder: str) -> float:
    return float(json.loads((Path(folder) / RESULT).read_text())["accuracy"]["val_chosen"])


@pytest.mark.slow
def test_train__trains_only_what_is_missing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["train", *TINY, "quiet=true", "seeds=1"]
    assert main(typed) == 0
    assert main(["check", *TINY, "seeds=2"]) == 0
    out = capsys.readouterr().out
    assert out.count("complete") == 3
    assert out.count("to train") == 2
    from distill import training

    trained: list[str] = []
    before = training.train

    def counted(cfg: Record, folder: Path, overrides: list[str], title: str, member: None) -> None:
        trained.append(title)
        before(cfg, folder, overrides, title, member)

    monkeypatch.setattr(training, "train", counted)
    weight = "loss.kd.weight=${scheduler.temperature.end}"
    assert main([*typed, weight, "scheduler.temperature.end=2"]) == 0
    assert trained == ["student distilled"]
    kept = [json.loads(file.read_text())["overrides"] for file in here.rglob("summary.json")]
    assert any(weight in overrides for overrides in kept)  # as it was typed, not what it comes to
    assert main([*typed, "tags=[again]", "logger=tensorboard"]) == 0
    assert trained == ["student distilled"]


def test_train__a_loss_that_diverges(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "quiet=true", "teacher=[]", "loss=[ce]", "optimizer.lr=1e30", "seeds=1"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "loss/ce is not finite at step" in err.strip().splitlines()[-1]
    (record,) = (json.loads(path.read_text()) for path in here.glob("runs/*/result.json"))
    assert record["status"] == "failed"


@pytest.mark.slow
def test_train__a_cell_that_fails_does_not_stop_the_sweep(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = ["optimizer.lr=1e30,0.05", "hydra.sweep.dir=runs/sweeps/mine"]
    common = [*TINY, "quiet=true", "teacher=[]", "loss=[ce]", "seeds=1", "logger=wandb", "logger.mode=offline"]
    assert main(["train", "-m", *common, *sweep]) == 1
    err = capsys.readouterr().err
    assert "1 cell failed:" in err
    assert "optimizer.lr=1e" in err.strip().splitlines()[-1]
    assert not (here / "runs/sweeps/mine/0/summary.json").exists()
    assert (here / "runs/sweeps/mine/1/summary.json").is_file()
    assert "WANDB_RUN_GROUP" not in os.environ
    assert main(["table", "runs/sweeps/mine"]) == 0
    out, err = capsys.readouterr()
    assert "optimizer.lr=0.05" in out
    assert "1 without a result" in err


@pytest.mark.parametrize(
    "line, expected",
    [
        ("distill train student=resnet8", {"student=resnet8", "student=resnet8x4"}),
        ("distill check optimizer.l", {"optimizer.lr="}),
        ("distill tr", {"train"}),
        ("distill ", set(COMMANDS)),
    ],
)
def test_completion__lists_what_fits(
    line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert set(capsys.readouterr().out.split()) == expected


def test_completion__in_a_real_shell() -> None:
    script = f"""
        distill() {{ {sys.executable} -m distill "$@"; }}; export -f distill
        eval "$(distill -sc install=bash)"
        COMP_LINE='distill train dataset=cif' COMP_POINT=25 COMP_WORDS=(distill train dataset=cif) COMP_CWORD=2
        type -t hydra_bash_completion && complete -p distill
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "function" in done.stdout
    assert "hydra_bash_completion distill" in done.stdout
