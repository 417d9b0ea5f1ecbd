"""The map-quality gate: its numbers by hand, in a run with boxes, once for the teacher; and nothing of it elsewhere."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from distill.assemble import assemble
from distill.comparison import alone, run
from distill.config import compose, resolved
from distill.dryrun import failures
from distill.fit import fit, folder_of
from distill.modules.cross_modal import CrossModal
from distill.modules.map_quality import inside, judged, target_attention
from distill.modules.single_teacher import SingleTeacher
from distill.outputs import Anchors, Batch
from distill.taps import Tapped
from tests.fake_clip import DATA, STUDENT, TEACHER, WIDTH

FAST = (
    "dataset.image_size=[16,16]", "dataset.samples=40", "dataset.batch_size=20", "dataset.val_fraction=0",
    "trainer.max_epochs=2", "trainer.accelerator=cpu", "quiet=true",
)  # fmt: skip


def config(*overrides: str) -> dict[str, Any]:
    student = () if "student=resnet8" in overrides else STUDENT
    return resolved(compose([*student, *TEACHER, *DATA, *FAST, *overrides]))


def test_inside__centres_in_the_box_and_the_place_of_its_centre() -> None:
    box = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.3, 0.55, 0.9, 0.7], [0.45, 0.45, 0.55, 0.55], [math.nan] * 4])
    found = inside(box, (2, 4))
    assert found[0].tolist() == [[True, True, False, False], [False] * 4]
    assert found[1].tolist() == [[False] * 4, [False, False, True, False]]  # flat: no row's centre lies in it
    assert found[2].sum() == 1  # no centre lies in it
    assert not found[3].any()


def example() -> tuple[Tensor, Anchors, Batch]:
    """Two classes, three places in a row: the first sample's class is at its first place, the second's nowhere."""
    anchors = Anchors(torch.eye(3)[:2], 10.0)
    maps = torch.tensor([[[3.0, 0, 0], [0, 2.0, 0], [0, 0, 1.0]], [[0, 0, 0], [0.1, 5.0, 0], [0, 0, 1.0]]])[:, :, None]
    target = torch.tensor([0, 0])
    box = torch.tensor([[0, 0, 0.34, 1.0], [0, 0, 0.34, 1.0]])
    zero = torch.zeros(2, dtype=torch.int64)
    return maps, anchors, Batch(torch.zeros(2, 3, 4, 4), target, zero, zero, box=box)


def test_judged__by_hand() -> None:
    maps, anchors, batch = example()
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    seen = judged(maps, logits, anchors, batch)
    # centred scores of class 0 are (1, -1, 0) / 2, and (-1, -1, 0) / 2 where only the second class is anywhere
    log = (torch.tensor([[0.5, -0.5, 0.0], [-0.5, -0.5, 0.0]]) / 0.07).log_softmax(1)
    torch.testing.assert_close(target_attention(maps, anchors, batch.target), log)
    assert seen.pointing.tolist() == [1.0, 0.0]
    assert seen.patch_class.tolist() == [1.0, 0.0]
    torch.testing.assert_close(seen.entropy, -(log.exp() * log).sum(1) / math.log(3))
    # the mean over places of the class probabilities: even in the first sample, class 1 in the second
    assert seen.agreement.tolist() == [1.0, 0.0]
    none = judged(maps, logits, anchors, batch._replace(box=None))
    assert none.pointing.isnan().all()
    assert none.patch_class.isnan().all()
    torch.testing.assert_close(none.entropy, seen.entropy)


def test_judged__a_flat_map_has_entropy_one() -> None:
    _, anchors, batch = example()
    flat = torch.ones(2, 3, 2, 2)
    assert judged(flat, torch.zeros(2, 2), anchors, batch).entropy.tolist() == pytest.approx([1.0, 1.0])


def test_run__judges_both_maps_and_keeps_what_it_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config("loss=[ce,map_semantic]", f"out={tmp_path}")
    parts = assemble(cfg)
    assert isinstance(parts.module, CrossModal)
    assert parts.module.teacher_map == "dense_value"
    record = fit(cfg, [], "gate")
    first, last = record["history"]
    names = {
        f"map/{s}_{n}" for s in ("teacher", "student") for n in ("pointing", "patch_class", "entropy", "agreement")
    }
    assert {k for k in last if k.startswith("map/")} == names | {"map/kl"}
    # the box fills a quarter of the image, and all of its places are of the colour of the class
    assert last["map/teacher_pointing"] == last["map/teacher_patch_class"] == 100
    assert last["map/teacher_agreement"] == 100
    assert last["map/teacher_entropy"] == pytest.approx(first["map/teacher_entropy"])
    assert last["map/student_entropy"] != first["map/student_entropy"]
    assert record["map"] == {
        **{k.removeprefix("map/"): v for k, v in last.items() if k.startswith("map/")}, "teacher_map": "dense_value",
    }  # fmt: skip
    with (folder_of(cfg) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["map/teacher_pointing"]) == 100
    assert "points at the class" not in capsys.readouterr().err


def test_run__the_teacher_s_map_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config("loss=[clip_feature]", "map_batches=1", f"out={tmp_path}", "dataset.eval_batch_size=5")
    asked = []
    own = CrossModal._ask_teacher

    def ask(self: CrossModal, batch: Batch, *rest: Any) -> Any:
        asked.append(len(batch.target))
        return own(self, batch, *rest)

    monkeypatch.setattr(CrossModal, "_ask_teacher", ask)
    record = fit(cfg, [], "once")
    assert asked == [5]
    assert len(record["history"]) == 2
    assert record["map"]["teacher_pointing"] == 100


def test_run__a_teacher_map_upside_down_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = config(
        "loss=[ce,clip_feature,dense_cosine]", "loss.dense_cosine.weight=1e-6", f"out={tmp_path}",
        "loss.dense_cosine.teacher_tap=dense_last_hidden", "optimizer.lr=0.01",
    )  # fmt: skip
    record = fit(cfg, [], "upside down")
    assert record["map"]["teacher_map"] == "dense_last_hidden"
    assert record["map"]["teacher_pointing"] == 0
    told = capsys.readouterr().err
    assert told.count("note: the teacher's map dense_last_hidden points at the class in 0.0 % of images") == 1


def test_assemble__nothing_of_it_for_a_plain_student_or_a_teacher_that_reads_nothing() -> None:
    plain = assemble(config("student=resnet8", "loss=[ce,kd]"))
    assert type(plain.module) is SingleTeacher
    assert plain.student.taps == ()
    other = resolved(compose([*STUDENT, *DATA, *FAST, "teacher=[resnet14]", "teacher.resnet14.checkpoint=built"]))
    assert type(assemble(other).module) is SingleTeacher


def test_assemble__the_training_step_reads_no_map_of_the_teacher_that_no_loss_wants() -> None:
    parts = assemble(config("loss=[ce,kd]"))
    batch = next(iter(parts.data.loader("test")))
    teacher = parts.teachers["resnet14"]
    assert teacher(batch).features == {}
    found = teacher.look(batch, ["dense_value"])
    assert found.features["dense_value"].shape == (20, WIDTH, 4, 4)
    assert teacher(batch).features == {}
    assert not any(m._forward_hooks for m in teacher.network.modules())  # type: ignore[union-attr]


def test_anchored__kd_of_logits_is_zero_shot_kd_and_loads_without_the_teacher(tmp_path: Path) -> None:
    cfg = config("student.anchored=true", "loss=[kd]", f"out={tmp_path}")
    parts = assemble(cfg)
    batch = next(iter(parts.data.loader("test")))
    teacher = parts.teachers["resnet14"]
    assert teacher.anchors is not None
    assert torch.equal(parts.student.network.get_buffer("text"), normalize(teacher.anchors.text, dim=1))
    logits = parts.student.eval()(batch.inputs).logits
    assert logits.abs().max() <= 20.001  # cosines times the teacher's scale
    assert alone(cfg, 0)["student"]["anchored"] is False


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["student.width=6", "loss=[ce,kd]"], r"student\.width=6: teacher\.resnet14 embeds in 8 values; set"),
        (["student.width=6", "loss=[clip_feature]"], r"loss\.clip_feature: .*student\.width=8, not 6"),
        (["student.width=6", "student.anchored=true", "loss=[kd]"], r"student: width=6 .* set student\.width=8"),
        (["loss=[ce,map_spatial]", "loss.map_spatial.student_tap=image_embedding"], "has no spatial extent"),
        (["loss=[ce,map_spatial]", "loss.map_spatial.teacher_tap=image_embedding"], "has no spatial extent"),
        (["loss=[ce,map_spatial]", "student=resnet8"],
         r"loss\.map_spatial: reads the student's dense, which ResNet does not have; take student=aligned "
         r"student@student\.network=resnet8 student\.width=8$"),
        (["loss=[ce,image_text_cosine]", "student=resnet8"],
         r"loss\.image_text_cosine: reads the student's image_embedding, .* student\.width=8$"),
        (
            ["loss=[ce,zero_shot]", "teacher.resnet14.network._target_=distill.networks.cifar.resnet.resnet14",
             "loss.zero_shot.teacher_tap=pooled", "student.width=64"],
            r"loss\.zero_shot: needs the text vectors of the classes, and the teacher embeds no text",
        ),
        (
            ["loss=[ce,kd]", "student.anchored=true",
             "teacher.resnet14.network._target_=distill.networks.cifar.resnet.resnet14"],
            r"student: anchored=true needs the text vectors of a teacher, .* set student\.anchored=false",
        ),
        (
            ["loss=[ce,icl]", "dataset._target_=distill.data.synthetic.Synthetic"],
            r"texts=captions, and the dataset has none; choose one with captions, or set texts=classes",
        ),
    ],
)  # fmt: skip
def test_check__one_sentence_before_training(overrides: list[str], message: str) -> None:
    cfg = config(*overrides)
    found = failures({**cfg, "alone": False}, set())
    assert len(found) == 1
    assert re.search(message, found[0])


@pytest.mark.slow
def test_run__a_whole_comparison_with_every_kind_of_loss(tmp_path: Path) -> None:
    terms = "ce,clip_feature,zero_shot,icl,affinity,clip_relation,map_spatial,map_semantic,dense_cosine"
    cfg = compose([*STUDENT, *TEACHER, *DATA, *FAST, f"loss=[{terms}]", f"out={tmp_path}", "seeds=1"])
    result = run(cfg)
    history = result.arms["distilled"][0]["history"]
    assert {f"loss/{term}" for term in terms.split(",")} <= set(history[-1])
    assert not any(key.startswith("map/") for key in result.arms["alone"][0]["history"][-1])
    assert isinstance(assemble(resolved(cfg)).student, Tapped)
