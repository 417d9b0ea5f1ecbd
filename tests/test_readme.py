"""Every command that the README, the help and the experiments show can be composed."""

import re
import shlex
from pathlib import Path

import pytest

from distill.commands.preflight import look, parsed
from distill.commands.usage import EXAMPLES
from distill.config import CONF

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text().replace("\\\n", "")
TEXTS = [README, EXAMPLES, *(path.read_text() for path in (CONF / "experiment").glob("*.yaml"))]
COMMAND = re.compile(r"^(?:#|  )? ?(distill (?:train|check|info) .*)$", re.MULTILINE)
SHOWN = [line for text in TEXTS for line in COMMAND.findall(text)]


@pytest.mark.parametrize("line", SHOWN)
@pytest.mark.slow
def test_commands__compose(line: str) -> None:
    if "optuna" in line or "+search" in line:
        pytest.importorskip("optuna", reason="the extra distill[optuna] is not installed")
    words = shlex.split(re.split(r"\s{2,}(?![-+']?\w+[=.\[])|\s#", line)[0])[2:]
    found = look(parsed(words), checks=False)
    wrong = ["sead=1", "student=resnet2"]  # what the README shows a mistake with
    assert bool(found.mistakes) == any(word in wrong for word in words), found.mistakes


def test_commands__some_were_found() -> None:
    assert len(SHOWN) > 12
