"""Pointing accuracy, its place in a training's records, and the whole way of questions through a training."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.assemble import assemble
from distill.config import ConfigError, compose, resolved
from distill.fit import fit, folder_of
from distill.outputs import Outputs
from distill.pointing import POINTER, Looks, counts, hits, peaks

NAN = float("nan")
VQA = [
    "dataset=shapes_vqa", "dataset.images=24", "dataset.test_images=12", "dataset.batch_size=16", "dataset.noise=0",
    "dataset.image_size=[32,32]", "dataset.questions=[color,presence]", "dataset.num_classes=8", "student=vqa_small",
    "teacher=[vqa]", "teacher.vqa.checkpoint=built", "trainer.max_epochs=1", "trainer.accelerator=cpu", "quiet=true",
]  # fmt: skip


def one_hot(height: int, width: int, row: int, column: int) -> Tensor:
    found = torch.full((height, width), 0.1)
    found[row, column] = 1
    return found


def test_peaks__cell_of_the_mean_over_heads() -> None:
    maps = torch.stack([one_hot(2, 4, 1, 2), one_hot(2, 4, 0, 3)])
    assert peaks(maps).tolist() == [[0.5, 0.5, 0.75, 1], [0.75, 0, 1, 0.5]]
    heads = torch.stack([one_hot(2, 4, 0, 0), 3 * one_hot(2, 4, 1, 2)])[None]
    assert peaks(heads).tolist() == [[0.5, 0.5, 0.75, 1]]


@pytest.mark.parametrize(
    "box, hit",
    [
        ([0.5, 0.5, 0.8, 0.8], True),  # the cell's centre, 0.625 and 0.625, is in the box
        ([0.55, 0.52, 0.6, 0.57], True),  # the box's centre is in the cell
        ([0.1, 0.1, 0.6, 0.6], False),  # they only overlap
        ([0.0, 0.5, 0.3, 0.7], False),
        ([NAN] * 4, False),
    ],
)
def test_hits__centres(box: list[float], hit: bool) -> None:
    assert hits(torch.tensor([[0.5, 0.5, 0.75, 0.75]]), torch.tensor([box])).tolist() == [hit]


def test_hits__on_every_grid_the_cell_of_an_object_s_centre() -> None:
    """However coarse or fine the grid is, who points at the centre of an object is right."""
    random = torch.Generator().manual_seed(0)
    corner, size = torch.rand(200, 2, generator=random) * 0.6, 0.02 + torch.rand(200, 2, generator=random) * 0.38
    box = torch.cat([corner, corner + size], 1)
    centre = corner + size / 2
    for cells in (1, 2, 4, 8, 32):
        maps = torch.zeros(200, cells, cells)
        at = (centre * cells).long()
        maps[torch.arange(200), at[:, 1], at[:, 0]] = 1
        assert hits(peaks(maps), box).all()
    away = hits(peaks(torch.zeros(200, 8, 8)), box)  # the first cell, at the top left
    assert away.sum() < 20


def test_counts__only_samples_with_a_box() -> None:
    maps = torch.stack([one_hot(2, 2, 0, 0)] * 3)
    box = torch.tensor([[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1], [NAN] * 4])
    like = torch.zeros((), dtype=torch.float32)
    assert counts(Outputs(torch.zeros(3, 2), {POINTER: maps}), box, like).tolist() == [1, 2]
    assert counts(Outputs(torch.zeros(3, 2), {POINTER: maps}), None, like).tolist() == [0, 0]
    assert counts(Outputs(torch.zeros(3, 2)), box, like).tolist() == [0, 0]


def test_looks__report_by_kind() -> None:
    looks, box = Looks(), torch.tensor([[0, 0, 0.4, 0.4], [0.5, 0.5, 1, 1], [NAN] * 4, [0, 0, 0.5, 0.5]])
    looks.see(torch.stack([one_hot(2, 2, 0, 0)] * 3))
    looks.keep(Outputs(torch.zeros(1, 2), {POINTER: one_hot(2, 2, 0, 0)[None]}))
    looks.keep(Outputs(torch.zeros(1, 2)))
    found = looks.report(box, torch.tensor([0, 1, 2, 1]), ["color", "shape", "count"])["pointing"]
    assert found["samples"] == 3
    assert found["accuracy"] == pytest.approx(200 / 3)
    assert found["by_kind"] == {"color": 100, "shape": 50}
    assert looks.report(None) == Looks().report(box) == looks.report(torch.full((4, 4), NAN)) == {}


def test_watching__ends_with_the_block() -> None:
    parts = assemble(resolved(compose([*VQA, "loss=[ce,kd]"])))
    batch = next(parts.data.train_batches())
    teacher, looks = parts.teachers["vqa"], Looks()
    with looks.watching(teacher.network), Looks().watching(None), Looks().watching(torch.nn.Linear(1, 1)):
        teacher(batch)
    teacher(batch)
    assert [len(found) for found in looks.cells] == [len(batch.target)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    torch.set_num_threads(1)
    cfg = resolved(compose([*VQA, "loss=[bce,answer_bce,attention_kl]", f"out={tmp_path_factory.mktemp('runs')}"]))
    return fit(cfg, [], "questions"), folder_of(cfg)


def test_training__records_where_both_look(trained: tuple[dict, Path]) -> None:
    record, folder = trained
    found = record["test"]
    assert found["pointing"]["samples"] == found["teacher_pointing"]["vqa"]["samples"] > 0
    for told in (found["pointing"], found["teacher_pointing"]["vqa"]):
        assert 0 <= told["accuracy"] <= 100
        assert set(told["by_kind"]) == {"color", "presence"}
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    assert float(rows[-1]["test/pointing"]) == pytest.approx(record["test_last"]["pointing"]["accuracy"], rel=1e-5)
    assert "val/pointing" in rows[-1]
    terms = [record["history"][0][f"loss/{name}"] for name in ("bce", "answer_bce", "attention_kl")]
    assert all(math.isfinite(value) and value > 0 for value in terms)


def test_training__no_pointing_without_boxes(tmp_path: Path) -> None:
    run = ["teacher=[]", "loss=[ce]", "trainer.max_epochs=1", "trainer.accelerator=cpu", "quiet=true"]
    cfg = resolved(compose([*run, "dataset.train_size=40", f"out={tmp_path}"]))
    record = fit(cfg, [], "digits")
    assert "pointing" not in record["test"]
    assert not any("pointing" in name for name in record["history"][0])


@pytest.mark.parametrize(
    "typed, words",
    [
        (["dataset=synthetic", "dataset.image_size=[32,32]"], "reads text and the dataset has none"),
        (["teacher.vqa.network.num_classes=9"], "gives 9 classes, the dataset has 8"),
        (["student.num_classes=9"], "student: gives 9 classes, the dataset has 8; set student.num_classes"),
        (["loss.attention_kl.student_tap=pooled"], r"student tap 'pooled' has shape \(64,\) .* \(heads, h, w\)"),
        (["loss.attention_kl.teacher_tap=attentoin"], "no tap 'attentoin' in VQA; nearest: attention"),
        (["student.text.length=3"], "has 6 tokens and this network takes 3"),
    ],
)
def test_assemble__mistakes(typed: list[str], words: str) -> None:
    overrides = VQA if typed[0].startswith("dataset=") is False else [o for o in VQA if not o.startswith("dataset")]
    with pytest.raises(ConfigError, match=words):
        assemble(resolved(compose([*overrides, "loss=[ce,kd,attention_kl]", *typed])))


@pytest.mark.parametrize("heads", ["mean", "adapter", "cosine"])
def test_assemble__words_of_two_networks(heads: str) -> None:
    taps = ["loss.attention_kl.student_tap=attention_tokens", "loss.attention_kl.teacher_tap=attention_tokens"]
    words = [*taps, "loss.attention_kl.tokens=words", "loss.attention_kl.i2t=1", f"loss.attention_kl.heads={heads}"]
    parts = assemble(resolved(compose([*VQA, "loss=[attention_kl]", *words, "student.image.halvings=4"])))
    batch = next(parts.data.train_batches())
    total, _ = parts.objective(parts.student(batch.inputs, batch.text), parts.teachers["vqa"](batch), batch)
    total.backward()
    assert total > 0
    grads = {name for name, p in parts.student.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"blocks.0.query.weight", "blocks.0.key.weight", "text.embedding.weight"} <= grads
