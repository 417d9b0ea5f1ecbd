"""Every loss trains beside another term, resumes after a kill, is replayed, leaves a student that can be exported."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.assemble import assemble
from distill.config import compose, resolved
from distill.fit import LAST, STUDENT, fit, folder_of
from distill.modules import graphs
from distill.trained import load
from tests.losses.settings import SETTINGS, Setting, build
from tests.replaying import record
from tests.test_resume import exact, killed_at

DATA = [
    "dataset=synthetic", "dataset.image_size=[16,16]", "dataset.samples=96", "dataset.batch_size=32",
    "dataset.val_fraction=0", "trainer.max_epochs=2", "trainer.accelerator=cpu", "quiet=true", "checkpoint_every=1",
]  # fmt: skip


def typed(key: str, value: Any) -> str:
    """Return an override as it is typed; a node is laid over that of the yaml."""
    if isinstance(value, dict):
        return f"+{key}={{{','.join(f'{k}:{v}' for k, v in value.items())}}}"
    return f"{key}={value}"


def config(setting: Setting, out: Path) -> dict[str, Any]:
    networks = [*setting.networks] or ["student=resnet8", "teacher=[resnet14]", "teacher.resnet14.checkpoint=built"]
    terms = "ce" if setting.name == "ce" else f"ce,{setting.name}"
    arguments = [typed(f"loss.{setting.name}.{key}", value) for key, value in setting.kwargs.items()]
    if not build(setting).reads_teacher:
        networks = [*(word for word in networks if not word.startswith("teacher")), "teacher=[]"]
    return resolved(compose([*DATA, *networks, f"loss=[{terms}]", *arguments, f"out={out}"]))


@pytest.mark.slow
@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.trained], ids=lambda setting: setting.id)
def test_loss__trains_resumes_replays_and_exports(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    cfg = config(setting, tmp_path / "whole")
    whole = fit(cfg, [], "whole")
    values = [row[f"loss/{setting.name}"] for row in whole["history"]]
    assert all(value == value and value >= 0 for value in values)
    weights = load_file(folder_of(cfg) / STUDENT)
    before = assemble(cfg).student.network.state_dict()
    assert any(not torch.equal(weights[name], value) for name, value in before.items())

    broken = config(setting, tmp_path / "broken")
    assert killed_at(4, signal.SIGKILL, broken) == -signal.SIGKILL
    assert (folder_of(broken) / LAST).is_file()
    assert exact(fit(broken, [], "again")["history"]) == exact(whole["history"])
    again = load_file(folder_of(broken) / STUDENT)
    assert all(torch.equal(value, again[name]) for name, value in weights.items())

    if build(setting).recordable:
        monkeypatch.setitem(graphs.RECORDERS, "cpu", record)
        recorded = {**config(setting, tmp_path / "graph"), "graph": True, "checkpoint_every": None}
        replayed = fit(recorded, [], "graph")["history"]
        for row, other in zip(exact(replayed), exact(whole["history"]), strict=True):
            # of one method, reviewkd, not to the last bit
            assert row == {key: pytest.approx(value, rel=1e-5) for key, value in other.items()}

    student = load(folder_of(cfg)).student
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    program = torch.export.export(student.network, (student.normalize(images),))
    assert torch.equal(program.module()(student.normalize(images)), student(images).logits)
