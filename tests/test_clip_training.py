"""A small CLIP trained from scratch by itself, kept as transformers keeps it, and taught from by one command."""

import re
from pathlib import Path

import pytest
import torch

from distill.assemble import assemble
from distill.check import problems
from distill.comparison import alone, run, teacher_config
from distill.config import compose, resolved
from distill.fit import STUDENT, TRANSFORMERS, label, taught
from distill.trained import load
from tests.fake_clip import DATA as BOXES
from tests.fake_clip import TEACHER

SMALL = ("patch=8", "width=24", "depth=1", "heads=2", "text_width=16", "text_depth=1", "dim=12", "vocabulary=40")
DATA = [
    "dataset=synthetic", "dataset._target_=tests.data.captioned.Captioned", "dataset.image_size=[16,16]",
    "dataset.samples=160", "dataset.num_classes=4", "dataset.batch_size=20", "trainer.accelerator=cpu", "quiet=true",
    "seeds=1", "optimizer=adamw", "optimizer.lr=0.01",
]  # fmt: skip
PLAIN = ["student=clip_small", *(f"student.{size}" for size in SMALL), "teacher=[]", "loss=[contrastive]"]
TAUGHT = [
    "teacher=[clip_small]", *(f"teacher.clip_small.network.{size}" for size in SMALL),
    "+teacher.clip_small.training.trainer.max_epochs=3", "student=resnet8", "loss=[kd]", "alone=false",
    "trainer.max_epochs=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs")
    cfg = compose([*DATA, *PLAIN, "trainer.max_epochs=8", f"out={out}"])
    return Path(run(cfg).folders["alone"][0])


def test_run__classes_are_recognised_by_their_names(trained: Path) -> None:
    found = load(trained)
    assert found.record is not None
    assert "-contrastive-" in trained.name
    assert found.record["history"][-1]["loss/contrastive"] < found.record["history"][0]["loss/contrastive"]
    assert found.record["test"]["accuracy"] > 60  # chance is 25
    logits, _ = found.predict()
    assert found.evaluate()["accuracy"] == found.record["test"]["accuracy"]
    assert logits.shape == (80, 4)


def test_run__leaves_a_folder_that_teaches_with_equal_outputs(trained: Path) -> None:
    name = trained / TRANSFORMERS
    common = [*DATA, "student=resnet8", "loss=[kd]", "teacher=[clip]"]
    parts = assemble(resolved(compose([*common, f"teacher.clip.network.name={name}"])))
    batch = next(iter(parts.data.loader("test")))
    told = parts.teachers["clip"](batch)
    with torch.no_grad():
        own = load(trained).student(batch.inputs).logits
    torch.testing.assert_close(told.logits, own, rtol=1e-5, atol=1e-4)
    anchors = parts.teachers["clip"].anchors
    assert anchors is not None
    assert anchors.text.shape == (4, 12)
    assert parts.teachers["clip"].identity()["scale"] == f"{anchors.scale:.9g}"


@pytest.mark.slow
def test_run__one_command_trains_the_teacher_and_the_student(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cfg = compose([*DATA, *TAUGHT, f"out={tmp_path}"])
    assert problems(cfg) == []
    result = run(cfg, checked=True)
    teacher = result.teachers["clip_small"]
    assert list(teacher["config"]["loss"]) == ["contrastive"]
    assert teacher["config"]["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert result.arms["distilled"][0]["status"] == "complete"
    assert list(tmp_path.glob(f"captioned-clip_small-contrastive-s0-*/{STUDENT}"))


@pytest.mark.slow
def test_run__two_image_text_teachers_of_different_widths_teach_one_clip(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    both = ["teacher=[clip_small,resnet14]", *TEACHER[1:], *(word for word in TAUGHT if "clip_small." in word)]
    both.append("teacher.clip_small.training.trainer.max_epochs=12")
    cfg = compose([
        *DATA, *BOXES, *both, "student=clip_small", *(f"student.{size}" for size in SMALL), "student.dim=8",
        "loss=[clip_ensemble]", "optimizer.lr=0.003", "alone=false", "trainer.max_epochs=16", f"out={tmp_path}",
    ])  # fmt: skip
    assert resolved(cfg)["loss"]["clip_ensemble"]["teachers"] == ["clip_small", "resnet14"]
    assert problems(cfg) == []
    record = run(cfg, checked=True).arms["distilled"][0]
    assert record["history"][-1]["loss/clip_ensemble"] < record["history"][0]["loss/clip_ensemble"]
    assert record["test"]["accuracy"] > 60  # no label was read; chance is 20


def test_teacher_config__terms_of_its_own_are_all_there_are() -> None:
    cfg = compose([*DATA, *TAUGHT])
    assert list(teacher_config(cfg, "clip_small")["loss"]) == ["contrastive"]
    own = teacher_config(compose([*DATA, *TAUGHT, "optimizer=sgd", "optimizer.lr=0.1"]), "clip_small")
    assert "momentum" not in own["optimizer"]  # of the student's optimizer
    assert own["lr_scheduler"]["max_lr"] == own["optimizer"]["lr"] == 5e-4
    del cfg["teacher"]["clip_small"]["training"]["loss"]
    assert list(teacher_config(cfg, "clip_small")["loss"]) == ["ce"]


def test_taught__what_is_beside_the_labels_is_compared_with_them_alone() -> None:
    beside = compose([*DATA, "student=resnet8", "teacher=[]", "loss=[ce,tfkd]"])
    assert taught(beside)
    assert "-ce+tfkd-" in label(resolved(beside))
    assert list(alone(beside, 0)["loss"]) == ["ce"]
    assert "-alone-" in label(alone(beside, 0))
    assert not taught(compose([*DATA, *PLAIN]))
    assert not taught(compose([*DATA, "student=resnet8", "teacher=[]", "loss=[ce]"]))


@pytest.mark.parametrize(
    "typed, message",
    [
        (["dataset=synthetic"], "the classes are called 0, 1, 2, ...: they have no names"),
        (
            ["student.templates=[a photo]"],
            "student.templates=.*: templates must be prompts with {} once.* got 'a photo'",
        ),
        (["student.vocabulary=5"], "student: vocabulary=5: the texts have"),
        (["student.length=2"], "student: the text .* tokens and this network takes 2"),
        (["student.patch=5"], "student.patch=5: patch must divide the sides"),
        (["student=resnet8", "student.num_classes=4"], "no tap 'image_embedding' in ResNet"),
    ],
)
def test_problems__are_one_sentence(typed: list[str], message: str) -> None:
    own = DATA if typed[0] != "dataset=synthetic" else [word for word in DATA if "_target_" not in word]
    plain = [word for word in PLAIN if not any(word.startswith(t.partition("=")[0] + "=") for t in typed)]
    if typed[0] == "student=resnet8":
        plain = ["teacher=[]", "loss=[contrastive]"]
    found = problems(compose([*own, *plain, *typed[typed[0] == "dataset=synthetic" :]]))
    assert len(found) == 1, found
    assert re.search(message, found[0]), found
