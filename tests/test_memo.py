"""What is remembered of checks, when it is believed, and that the commands that need no torch do without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill import check, memo, verdict
from distill.config import compose
from distill.verdict import Case

CODE = """
import sys
from distill.cli import main
code = main(sys.argv[1:])
print("torch" if {"torch", "pytorch_lightning", "numpy"} & set(sys.modules) else "light", code, file=sys.stderr)
"""
ROOT = Path(memo.__file__).parent.parent
SMALL = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "seeds=1"]


def distill(*typed: str) -> tuple[str, str, str]:
    """Return what the command prints, and ``torch`` or ``light`` with its exit code."""
    done = subprocess.run([sys.executable, "-c", CODE, *typed], capture_output=True, text=True, check=True)
    *said, last = done.stderr.strip().splitlines()
    return done.stdout, "\n".join(said), last


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, to which child processes find this checkout, too."""
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("typed", [["--help"], ["train", "--help"], ["table", "."], ["check", "--help"]])
def test_commands__need_no_torch(typed: list[str], here: Path) -> None:
    assert distill(*typed)[2].startswith("light")


def test_help__shows_a_group_that_is_added(here: Path) -> None:
    (here / "own" / "student").mkdir(parents=True)
    typed = ["train", "--help", "--config-dir", "own"]
    first = distill(*typed)
    assert distill(*typed) == first
    (here / "own" / "student" / "brandnew.yaml").write_text("width: 3\n")
    assert "brandnew" in distill(*typed)[0]
    assert "brandnew" not in first[0]


@pytest.mark.slow
def test_check__needs_torch_once(here: Path) -> None:
    first = distill("check", *SMALL)
    assert first[2] == "torch 0"
    assert distill("check", *SMALL) == (*first[:2], "light 0")
    assert distill("check", *SMALL, "seeds=2", "tags=[a]")[2] == "light 0", "the verdict is the same"
    (here / "runs").mkdir()
    assert distill("check", *SMALL)[2] == "light 0"
    assert distill("check", *SMALL, "student.width=3")[2] == "torch 0"


@pytest.mark.slow
def test_check__remembers_mistakes(here: Path) -> None:
    typed = ["check", *SMALL, "sead=1", "loss.kd.temperature=-1"]
    out, err, last = distill(*typed)
    assert last == "torch 2"
    head, static, made = err.splitlines()
    assert head == "1 mistake so far, nothing was trained:"
    assert "sead=1" in static
    assert "above 0" in made
    assert distill(*typed) == ("", "\n".join(["2 mistakes, nothing was trained:", static, made]), "light 2")
    assert out == ""


@pytest.mark.slow
def test_train__reuses_the_verdict_of_check(here: Path) -> None:
    distill("check", *SMALL, "loss.kd.temperature=-1")
    _, err, last = distill("train", *SMALL, "loss.kd.temperature=-1")
    assert last == "light 2"
    assert "above 0" in err


@pytest.mark.slow
def test_info__needs_torch_once(here: Path) -> None:
    first = distill("info", "student.width=4")
    assert first[2] == "torch 0"
    assert distill("info", "student.width=4") == (*first[:2], "light 0")
    assert distill("info", "student.width=4", "--all")[2] == "torch 0"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each look that is deep."""
    looks: list[str] = []

    def found(cfg: object, looked: object, known: list[str], dry_run: bool, tried: set[str]) -> list[str]:
        looks.append("look")
        return ["student: something is wrong with x.txt"] if Path("x.txt").exists() else []

    monkeypatch.setattr(verdict, "_found", found)
    for hub in verdict.HUBS:  # which other tests of this process may have imported
        monkeypatch.delitem(sys.modules, hub, raising=False)
    return looks


def looks(counted: list[str], *overrides: str) -> bool:
    """Whether a check of a config had to look anew."""
    before = len(counted)
    check.problems(compose([*SMALL, *overrides]))
    return len(counted) > before


def test_problems__remembers_until_something_changes(
    here: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looks(counted)
    assert not looks(counted)
    assert not looks(counted, "seed=3", "out=elsewhere", "quiet=true", "tags=[a]", "rerun=true")
    assert looks(counted, "optimizer.lr=0.2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert looks(counted)
    monkeypatch.setattr("distill.memo.code_hash", lambda: "other code")
    assert looks(counted)


def test_problems__looks_again_at_files_that_changed(here: Path, counted: list[str]) -> None:
    images = here / "images"
    images.mkdir()
    typed = ["dataset=image_folder", "dataset.root=images", "dataset.num_classes=2"]
    assert looks(counted, *typed)
    assert not looks(counted, *typed)
    (images / "one.png").write_text("1")
    assert looks(counted, *typed)
    os.utime(images / "one.png", (1, 1))
    assert looks(counted, *typed)
    assert not looks(counted, *typed)


def test_problems__looks_again_at_code_that_changed(importable: Path, here: Path, counted: list[str]) -> None:
    (here / "theirs").mkdir()
    (here / "theirs" / "net.py").write_text("def net(num_classes, channels, width): ...\n")
    (here / "theirs" / "helpers.py").write_text("x = 1\n")
    typed = ["student._target_=theirs.net.net"]
    assert looks(counted, *typed)
    assert not looks(counted, *typed)
    (here / "theirs" / "helpers.py").write_text("x = 22\n")
    assert looks(counted, *typed)
    assert "theirs" not in sys.modules


def test_problems__a_failure_counts_while_its_files_stay(here: Path, counted: list[str]) -> None:
    wrong = here / "x.txt"
    wrong.write_text("wrong")
    assert check.problems(compose(SMALL)) == ["student: something is wrong with x.txt"]
    assert check.problems(compose(SMALL)) == ["student: something is wrong with x.txt"]
    assert len(counted) == 1
    wrong.unlink()
    assert check.problems(compose(SMALL)) == []


def test_problems__a_failure_that_asked_the_network_is_not_remembered(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def found(*_: object) -> list[str]:
        socket.getaddrinfo("127.0.0.1", 80)
        return ["student: no answer"]

    monkeypatch.setattr(verdict, "_found", found)
    case = Case(compose(SMALL), dry_run=True)
    assert case.mistakes(set()) == ["student: no answer"]
    assert not case.lasting
    assert not Case(compose(SMALL), dry_run=True).remembered


def test_problems__without_a_folder_that_can_be_written(
    here: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "file").write_text("")
    monkeypatch.setenv("DISTILL_CACHE", str(here / "file" / "cache"))
    assert looks(counted)
    assert looks(counted)


def test_keep__drops_the_oldest(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "MOST", 3)
    for i in range(3):
        memo.keep(f"n{i}", {"i": i}, {})
        os.utime(memo._path(f"n{i}"), (i, i))
    assert memo.recall("n0") == {"i": 0}  # now the youngest
    memo.keep("n3", {"i": 3}, {})
    assert {name for name in ("n0", "n1", "n2", "n3") if memo.recall(name)} == {"n0", "n2", "n3"}


def test_keep__not_what_depends_on_a_resolver(here: Path) -> None:
    memo.keep("n", {"i": 1}, {"root": "${oc.env:HOME}/images"})
    assert memo.recall("n") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"answer": 3}', json.dumps({"answer": {}, "files": 3})])
def test_recall__a_file_that_is_damaged(text: str, here: Path) -> None:
    path = memo._path("n")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert memo.recall("n") is None
