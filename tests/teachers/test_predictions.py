"""Predictions made elsewhere: the answers of an online teacher on plain images, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from distill.assemble import assemble, make_data, make_teacher
from distill.cli import main
from distill.config import compose, resolved
from distill.fit import fit, folder_of
from distill.outputs import Batch
from distill.trained import load

PLAIN = [
    "dataset.augment=null",
    "dataset.train_size=300",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "quiet=true",
]


def write(path: Path, logits: torch.Tensor, ids: torch.Tensor | None) -> Path:
    if path.suffix == ".npz":
        np.savez(path, logits=logits.numpy(), **({} if ids is None else {"ids": ids.numpy()}))
    elif path.suffix == ".safetensors":
        save_file({"logits": logits, **({} if ids is None else {"ids": ids})}, path)
    else:
        columns: dict[str, Any] = {"logits": list(logits.numpy())}
        pq.write_table(pa.table(columns if ids is None else {"id": ids.numpy(), **columns}), path)
    return path


def config(folder: Path, teacher: list[str]) -> dict[str, Any]:
    return resolved(compose([*PLAIN, *teacher, f"out={folder}"]))


def online(folder: Path) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """Return a config with a network as teacher, its logits of the whole source in another order, and their ids."""
    cfg = config(folder, ["teacher.digits_cnn.checkpoint=built"])
    data = make_data(cfg)
    torch.manual_seed(cfg["seed"])
    teacher = assemble(cfg).teachers["digits_cnn"]
    split = data.splits["train"]
    ids = torch.randperm(split.source_size)
    images = split.images[ids]  # type: ignore[attr-defined]
    zeros = torch.zeros(len(ids), dtype=torch.int64)
    return cfg, teacher(Batch(images, zeros, zeros, zeros)).logits, ids


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_predictions__train_as_the_teacher_that_made_them(tmp_path: Path, suffix: str) -> None:
    cfg, logits, ids = online(tmp_path)
    path = write(tmp_path / f"answers{suffix}", logits, ids)
    theirs = config(tmp_path, ["teacher=predictions", f"teacher.predictions.checkpoint={path}"])
    expected, found = fit(cfg, [], "online"), fit(theirs, [], "predictions")
    for a, b in zip(expected["history"], found["history"], strict=True):
        expected_row = {k: v for k, v in a.items() if k != "seconds"}
        assert {k: v for k, v in b.items() if k != "seconds"} == pytest.approx(expected_row, rel=1e-5)
    assert "agreement" in expected["test"]
    assert "agreement" not in found["test"]  # there are no answers for test images
    assert "agreement" not in load(folder_of(theirs)).evaluate("test")


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_predictions__without_ids_are_in_the_order_of_the_data(tmp_path: Path, suffix: str) -> None:
    _, logits, ids = online(tmp_path)
    path = write(tmp_path / f"answers{suffix}", logits[ids.argsort()], None)
    cfg = config(tmp_path, ["teacher=predictions", f"teacher.predictions.checkpoint={path}"])
    data = make_data(cfg)
    teacher = make_teacher("predictions", cfg["teacher"]["predictions"], data, [])
    batch = next(data.train_batches())
    expected = assemble(config(tmp_path, ["teacher.digits_cnn.checkpoint=built"])).teachers["digits_cnn"](batch)
    assert torch.equal(teacher(batch).logits, expected.logits)


def wrong(kind: str, folder: Path) -> Path:
    logits, ids = torch.randn(1797, 10), torch.arange(1797)
    path = folder / "answers.npz"
    if kind == "missing":
        return write(path, logits[:1000], ids[:1000])
    if kind == "classes":
        return write(path, logits[:, :9], ids)
    if kind == "nan":
        logits[3, 2] = torch.nan
        return write(path, logits, ids)
    if kind == "twice":
        return write(path, logits, ids.clamp(max=5))
    if kind == "count":
        return write(path, logits, ids[:-1])
    if kind == "flat":
        return write(path, logits[:, 0], ids)
    if kind == "pickle":
        np.savez(path, logits=np.array([{}, {}], dtype=object))
        return path
    if kind == "no logits":
        np.savez(path, scores=logits.numpy())
        return path
    path = folder / {"suffix": "answers.csv", "parquet": "answers.parquet"}.get(kind, "answers.npz")
    path.write_bytes(b"no such thing")
    return path


@pytest.mark.parametrize(
    "kind, words",
    [
        ("missing", "has no logits for"), ("classes", "gives 9 classes, the dataset has 10"),
        ("nan", "logits of id 3 are not finite"), ("twice", "an id is negative or there twice"),
        ("count", "ids are (1796,), and must be 1797 whole numbers"), ("flat", "must be numbers (samples, classes)"),
        ("pickle", "cannot be read as npz"), ("no logits", "has no logits, only scores"), ("garbage", "read as npz"),
        ("suffix", "must end in .npz, .parquet, .safetensors"), ("parquet", "cannot be read as parquet"),
    ],
)  # fmt: skip
def test_predictions__refused_before_training(
    kind: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = wrong(kind, tmp_path)
    typed = [*PLAIN, "teacher=predictions", f"teacher.predictions.checkpoint={path}", f"out={tmp_path}/runs"]
    assert main(["check", *typed]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0] == "1 mistake, nothing was trained:"
    assert "teacher.predictions" in lines[1]
    assert words in lines[1]


@pytest.mark.parametrize(
    "typed, words",
    [
        ([], "teacher.predictions.checkpoint: required"),
        (["teacher.predictions.checkpoint=train"], "give a file, for there is no network"),
        (["teacher.predictions.checkpoint=nowhere.npz"], "there is no such file"),
    ],
)
def test_predictions__need_a_file(typed: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *PLAIN, "teacher=predictions", *typed]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2, lines
    assert words in lines[1]


def test_predictions__refuse_taps_and_show_in_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.npz", torch.randn(1797, 10), None)
    typed = [*PLAIN, "teacher=predictions", f"teacher.predictions.checkpoint={path}"]
    assert (
        main(["check", *typed, "loss=[ce,fitnet]", "loss.fitnet.student_tap=net.0", "loss.fitnet.teacher_tap=x"]) == 2
    )
    assert "a.npz has logits only, and a term reads the tap 'x'" in capsys.readouterr().err
    assert main(["info", *typed]) == 0
    assert "teacher" not in capsys.readouterr().out
    assert main(["check", *typed, f"out={tmp_path}"]) == 0
    assert str(path) in capsys.readouterr().out
