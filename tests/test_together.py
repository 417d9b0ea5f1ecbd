"""Students that train in turns in one process end with the bits of those that trained by themselves."""

import contextlib
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.assemble import assemble
from distill.commands.train import main
from distill.comparison import run, run_all
from distill.config import compose, resolved
from distill.fit import STUDENT, Interrupted, fit, folder_of
from distill.modules.base import DivergenceError
from distill.modules.cross_modal import CrossModal
from distill.records import RESULT, is_complete, lock, read_json
from distill.teachers.frozen import Frozen
from distill.together import Group, Shared, fit_together
from tests.test_cross_modal import config as aligned_config

SMALL = [
    "trainer.max_epochs=3", "trainer.accelerator=cpu", "dataset.batch_size=128", "dataset.train_size=600",
    "dataset.val_fraction=0.1", "quiet=true", "teacher=[digits_cnn]", "teacher.digits_cnn.checkpoint=built",
    "data_seed=3",
]  # fmt: skip
METHODS = [["seed=0"], ["seed=1", "loss=[ce,dkd]"], ["loss=[ce,kd,fitnet]"], ["loss=[ce]", "teacher=[]"]]


def config(out: Path, *overrides: str) -> dict[str, Any]:
    own = [text for text in SMALL if "teacher=[]" not in overrides or not text.startswith("teacher")]
    return resolved(compose([*own, f"out={out}", *overrides]))


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for one, other in zip(a["history"], b["history"], strict=True):
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    weights, others = (load_file(folder_of(record["config"]) / STUDENT) for record in (a, b))
    assert all(torch.equal(value, others[name]) for name, value in weights.items())


@pytest.mark.slow
def test_fit_together__each_is_bit_identical_to_a_run_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    alone = [fit(config(tmp_path / "alone", *extra), [], "alone") for extra in METHODS]
    asked, answer = [], Frozen._answer

    def counted(self: Frozen, batch: Any) -> Any:
        if not torch.equal(batch.view, torch.zeros_like(batch.view)):
            asked.append(batch)
        return answer(self, batch)

    monkeypatch.setattr(Frozen, "_answer", counted)
    configs = [config(tmp_path / "together", *extra) for extra in METHODS]
    together = fit_together([(cfg, "together") for cfg in configs], [])
    for one, other in zip(alone, together, strict=True):
        assert isinstance(other, dict)
        same(one, other)
    assert len(asked) == 5 * 2  # batches of the epochs after the first, whose view is 0; not once a student


def test_fit_together__the_others_train_while_one_waits_for_another_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    first, second = (config(tmp_path, f"seed={seed}") for seed in (0, 1))

    def free_once_the_other_is_done(held: contextlib.ExitStack) -> None:
        while not is_complete(read_json(folder_of(second) / RESULT)):
            time.sleep(0.05)
        assert not (folder_of(first) / RESULT).exists()
        held.close()

    with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
        held.enter_context(lock(folder_of(first)))
        freed = pool.submit(free_once_the_other_is_done, held)
        found = fit_together([(first, "first"), (second, "second")], [])
        freed.result()
    assert [is_complete(record) for record in found] == [True, True]
    assert f"another process is at {folder_of(first)}" in capfd.readouterr().err


def test_fit_together__a_signal_ends_the_wait_for_another_process(tmp_path: Path) -> None:
    cfg = config(tmp_path, "loss=[ce]", "teacher=[]")

    def child() -> None:
        try:
            fit_together([(cfg, "waits")], [])
        except Interrupted:
            os._exit(143)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=child)
    with lock(folder_of(cfg)):
        process.start()
        process.join(2)
        assert process.exitcode is None
        process.terminate()
        process.join(60)
    assert process.exitcode == 143


def test_run_all__one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    common = ["together=true", "alone=false", "seeds=1"]
    configs = [compose([*SMALL, *common, f"out={tmp_path}", *extra]) for extra in ([], ["optimizer.lr=1e30"])]
    good, bad = run_all(configs, [[], []])
    assert isinstance(bad, DivergenceError)
    assert not isinstance(good, BaseException)
    assert good.arms["distilled"][0]["status"] == "complete"


@pytest.mark.slow
def test_run__seeds_together_see_one_data_stream(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    own = [text for text in SMALL if not text.startswith("data_seed")]
    result = run(compose([*own, "together=true", "seeds=2", "seed=4", f"out={tmp_path}"]), checked=True)
    configs = [record["config"] for records in result.arms.values() for record in records]
    assert [(cfg["seed"], cfg["data_seed"]) for cfg in configs] == [(4, 4), (5, 4)] * 2
    again = fit({**configs[-1], "out": str(tmp_path / "alone")}, [], "alone")
    same(result.arms["distilled"][1], again)


@pytest.mark.slow
def test_launcher__cells_share_a_process_and_one_that_fails_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = [text for text in SMALL if not text.startswith("data_seed")]
    sweep = ["loss=[ce,kd],[ce,dist]", "optimizer.lr=0.1,1e30", "seeds=1", "alone=false", f"out={tmp_path}"]
    main(["-m", "hydra/launcher=together", *own, *sweep])
    said = capfd.readouterr().err
    assert "2 cells failed:" in said
    assert "optimizer.lr=1e+30" in said
    assert "is not finite at step" in said
    folders = sorted(path.parent.name for path in tmp_path.glob("sweeps/*/*/summary.json"))
    assert folders == ["0", "2"]


def test_group__an_aligned_student_has_the_anchors_and_the_map_of_its_teacher() -> None:
    cfg = aligned_config("student.anchored=true", "loss=[kd,map_spatial]")
    group = Group([cfg])
    parts = assemble(cfg, group)
    assert isinstance(parts.teachers["resnet14"], Shared)
    assert isinstance(parts.module, CrossModal)
    batch = next(iter(parts.data.loader("test")))
    assert parts.teachers["resnet14"].look(batch, ["dense_value"]).features["dense_value"].dim() == 4
