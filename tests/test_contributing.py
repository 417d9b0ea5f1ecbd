"""CONTRIBUTING.md is true: its files are written to an empty folder as they stand, its commands run there."""

import re
import shlex
from pathlib import Path

import pytest

from distill.cli import main

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
FILES = re.findall(r"```(?:python|yaml) title=(\S+)\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh run\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]


def test_examples__there_is_one_for_each_kind() -> None:
    kinds = {Path(path).parent.name for path, _ in FILES if path.endswith(".yaml")}
    assert kinds == {"loss", "scheduler", "student", "teacher", "dataset"}
    assert len(COMMANDS) == len(kinds)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_examples__work_as_they_stand(command: str, importable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, content in FILES:
        (importable / path).parent.mkdir(parents=True, exist_ok=True)
        (importable / path).write_text(content)
    monkeypatch.chdir(importable)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    program, *arguments = shlex.split(command)
    assert program == "distill"
    assert main(arguments) == 0
