"""What a user gets for each of many wrong command lines: clear sentences, exit code 2, and nothing written."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from distill.cli import main

TINY = (
    "dataset=synthetic", "dataset.image_size=[2,2]", "dataset.channels=1", "dataset.mean=[0.5]", "dataset.std=[0.5]",
)  # fmt: skip
CPU = ["trainer.accelerator=cpu", "trainer.max_epochs=1"]
BUILT = ["teacher.digits_cnn.checkpoint=built"]
FOLDER = ["dataset=image_folder", "dataset.num_classes=2", "dataset.image_size=[16,16]", "dataset.workers=0"]


class Case(NamedTuple):
    """A wrong command line: what is typed, and the words that each of its sentences must have, in order."""

    typed: list[str]
    sentences: list[list[str]]


def one(typed: str, *words: str, more: tuple[str, ...] = ()) -> Any:
    """Return a case with one wrong override and one sentence; ``more`` is right by itself."""
    return pytest.param(Case([*more, typed], [list(words)]), id=typed[:60])


CASES = [
    # keys
    one("sead=1", "sead=1", "did you mean seed?", "seed=1"),
    one("lr=0.1", "lr=0.1", "did you mean optimizer.lr?"),
    one("trainer.max_epoch=3", "trainer.max_epoch=3", "trainer.max_epochs=3"),
    one("loss.kd.temprature=4", "loss.kd.temprature=4", "loss.kd.temperature=4"),
    one("loss.dkd.beta=2", "loss.dkd.beta=2", "loss=[ce,kd,dkd]"),
    one("dataset.augment.pad=2", "dataset.augment.pad=2", "padding"),
    one("trainer.min_epochs=3", "+trainer.min_epochs=3"),
    one("+trainer.min_epoch=3", "trainer.min_epoch=3", "did you mean min_epochs?"),
    one("+loss.kd.temprature=4", "loss.kd.temprature=4", "did you mean temperature?"),
    one("+seed=1", "+seed=1", "write seed=1"),
    one("~seed", "seed", "missing"),
    one("~sead", "~sead", "did you mean seed?"),
    one("~loss.kd.weight", "loss.kd.weight", "+loss.kd.weight=1.0"),
    one("~student.width", "student.width", "missing", "student.width=..."),
    one("optimiser=sgd", "optimiser=sgd", "optimizer=sgd"),
    one("--seed=3", "--seed=3", "write seed=VALUE"),
    one("+dataset.seed=3", "dataset.seed=3", "remove it"),
    # groups
    one("student=resnet2", "student=resnet2", "nearest: resnet20"),
    one("loss=[ce,kdd]", "kdd", "kd", "dkd"),
    one("teacher=[resnet56,resnt20]", "resnt20", "resnet20"),
    one("dataset=cifar1000", "cifar1000", "cifar100"),
    one("optimizer=null", "optimizer=null", "sgd"),
    one("student=[resnet20,resnet8]", "one choice", "-m student=resnet20,resnet8"),
    one("dataset/augment=randaugmnt", "no such augment as randaugmnt", "randaugment"),
    one("dataset/mix=[mixup,cutmix]", "mix takes one choice", "-m dataset/mix=mixup,cutmix"),
    one("dataset.mix=cutmix", "dataset.mix=cutmix", "write dataset/mix=cutmix"),
    one("experiment=kd_resnet56_resnet20", "+experiment=kd_resnet56_resnet20", more=("dataset.root=nowhere",)),
    one("+experiment=nothing", "nothing", "kd_resnet56_resnet20"),
    one("hydra/launcher=proces", "proces", "process"),
    # types
    one("seed=abc", "seed=abc", "a whole number"),
    one("seeds=1.5", "seeds=1.5", "a whole number"),
    one("out=null", "out=null", "text"),
    one("tags=word", "tags=word", "a list"),
    one("check=never", "check=never", "full, static, only"),
    one("loss.kd.temperature=hot", "loss.kd.temperature=hot", "a number or a node with the _target_ of a Schedule"),
    one("loss.kd.t2=maybe", "loss.kd.t2=maybe", "true or false"),
    one("loss.kd.weight=heavy", "loss.kd.weight=heavy", "a number"),
    one("loss.kd=null", "loss.kd=null", "~loss.kd"),
    one("dataset.mean=0.3", "dataset.mean=0.3", "a list"),
    one("dataset.augment=flip", "dataset.augment=flip", "Augment"),
    one("loss.ce.label_smoothing=${scheduler.temperature}", "loss.ce.label_smoothing", "Linear", "a number"),
    one("optimizer._target_=torch.optim.SDG", "torch.optim.SDG", "torch.optim.SGD"),
    one("student._target_=distil.networks.digits.digits_cnn", "distil.networks", "correct the name"),
    # values
    one("loss.kd.temperature=-1", "loss.kd.temperature=-1", "above 0"),
    one("scheduler.temperature.end=-2", "loss.kd.temperature", "above 0", "-2"),
    one("scheduler.temperature.begin=2", "scheduler.temperature", "begin=2", "begin < until"),
    one("trainer.max_epochs=0", "trainer.max_epochs=0", "at least 1"),
    one("trainer.check_val_every_n_epoch=2", "trainer.check_val_every_n_epoch=2", "must divide trainer.max_epochs=1"),
    one("seeds=0", "seeds=0", "at least 1"),
    one("ema_decay=1.5", "ema_decay=1.5", "[0, 1)"),
    one("dataset.batch_size=0", "dataset.batch_size=0", "at least 1"),
    one("dataset.resident_gb=-1", "dataset.resident_gb=-1", "at least 0"),
    one("dataset.mix.alpha=0", "alpha=0", "above 0", more=("dataset/mix=mixup",)),
    one("dataset.augment.parts.1.size=0", "size=0", "at least 1", more=("dataset/augment=cutout",)),
    one("dataset.augment.parts.1.fill=[0.5,0.5,0.5]", "one number", "1 channel", more=("dataset/augment=cutout",)),
    one("dataset.val_fraction=1.0", "dataset.val_fraction=1", "[0, 1)"),
    one("optimizer.lr=-1", "optimizer.lr=-1"),
    one("trainer.precision=bf17-mixed", "trainer.precision=bf17-mixed", "did you mean bf16-mixed?"),
    one("trainer.strategy=dpp", "trainer.strategy=dpp", "did you mean ddp?"),
    one("trainer.accelerator=gpuu", "trainer.accelerator=gpuu", "did you mean gpu?"),
    one("trainer.devices=0", "trainer.devices=0", "at least 1"),
    one("out=file/runs", "out=file/runs", "is a file", "choose another folder"),
    one("teacher.digits_cnn.weight=0", "teacher.digits_cnn.weight=0", "above 0"),
    one("+teacher.digits_cnn.training.trainer.max_epochs=0", "teacher.digits_cnn.training", "max_epochs=0", "least 1"),
    # what belongs together
    one("loss=[ce]", "teacher=[digits_cnn]", "loss=[ce]", "teacher=[]"),
    one("loss=[ce,dkd]", "loss.dkd", "dataset/mix=none", more=("dataset/mix=either",)),
    one("teacher=[]", "loss=[ce,kd]", "teacher=..."),
    one("loss=[]", "loss=[]", "loss=[ce,kd]"),
    one("scheduler=[]", "loss.kd.temperature=${scheduler.temperature}", "scheduler.temperature"),
    one("loss.kd.weight=${scheduler.warmup}", "${scheduler.warmup}", "scheduler.temperature"),
    one("student.channels=${dataset.chanels}", "${dataset.chanels}", "${dataset.channels}"),
    one("student.num_classes=7", "7 classes", "10", "student.num_classes"),
    one("dataset.num_classes=11", "dataset.num_classes=11", "dataset.num_classes=10"),
    one("dataset.image_size=[9,9]", "dataset.image_size=[9,9]", "dataset.image_size=[8,8]"),
    one("loss.fitnet.student_tap=stage9", "stage9", "stage1", more=("loss=[ce,fitnet]",)),
    one("loss.fitnet.teacher_tap=stage9", "stage9", "stage1", more=("loss=[ce,fitnet]",)),
    one("dataset.train_size=5", "dataset.train_size=5", "between"),
    one("teacher=[vgg8]", "teacher.vgg8", "1x2x2", "choose another", more=TINY),
    # files
    one("teacher.digits_cnn.checkpoint=trian", "teacher.digits_cnn.checkpoint=trian", "train"),
    one("teacher.digits_cnn.checkpoint=truncated.ckpt", "truncated.ckpt", "cannot be read", "another file"),
    one("teacher.digits_cnn.checkpoint=text.pt", "text.pt", "cannot be read", "another file"),
    one("teacher.digits_cnn.checkpoint=malicious.pt", "malicious.pt", "Python objects", "another file"),
    one("teacher.digits_cnn.checkpoint=other.pt", "other.pt", "does not fit", "class count"),
    one("ckpt_path=nowhere.ckpt", "ckpt_path=nowhere.ckpt", "does not exist", "null"),
    one("ckpt_path=other.pt", "ckpt_path=other.pt", "no checkpoint of distill"),
    one("dataset.root=nowhere", "dataset.root=nowhere", "no such folder", "set it to", more=(*FOLDER,)),
    one("dataset.root=empty", "empty", "no class folders", "put the images", more=(*FOLDER,)),
    one("dataset.root=corrupt", "bad.png", "cannot be decoded", "replace or delete", more=(*FOLDER,)),
    # grammar
    one("loss=[ce", "loss=[ce", "cannot be read", "key=[a,b]"),
    one("seed", "seed", "has no value", "key=value"),
    one("seeds=1,2", "seeds=1,2", "add -m"),
]  # fmt: skip


class Trap:
    """A pickle that makes a folder when it is loaded as code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with files that are wrong in many ways."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "file").write_text("not a folder")
    (folder / "text.pt").write_text("these are no weights at all, but a few words\n" * 20)
    torch.save({"weight": torch.zeros(3, 4)}, folder / "other.pt")
    whole = (folder / "other.pt").read_bytes()
    (folder / "truncated.ckpt").write_bytes(whole[: len(whole) // 2])
    (folder / "malicious.pt").write_bytes(pickle.dumps(Trap()))
    (folder / "empty").mkdir()
    for name in ("a", "b"):
        (folder / "corrupt" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.full((16, 16, 3), 40 * i, np.uint8)
            Image.fromarray(pixels).save(folder / "corrupt" / name / f"{i}.png")
    (folder / "corrupt" / "b" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return folder


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the sentences on stderr, after looking that nothing else is there."""
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    head, *sentences = err.strip().splitlines()
    assert head.endswith("nothing was trained:")
    assert all(sentence.startswith("- ") for sentence in sentences), err
    return sentences


def written(folder: Path) -> set[Path]:
    return set(folder.iterdir())


@pytest.mark.slow  # about a second each
@pytest.mark.parametrize("case", CASES)
def test_train__wrong_config(
    case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = written(place)
    assert main(["train", *CPU, *case.typed]) == 2
    sentences = said(capsys)
    assert len(sentences) == len(case.sentences), sentences
    for sentence, words in zip(sentences, case.sentences, strict=True):
        assert all(word in sentence for word in words), sentence
    assert written(place) == before, "something was written, or a pickle was executed"


@pytest.mark.slow
def test_train__five_mistakes_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    wrong = ["sead=1", "student=resnet2", "loss.kd.temperature=-1", "out=file/runs", "dataset.batch_size=x"]
    assert main(["train", *wrong]) == 2
    sentences = said(capsys)
    assert len(sentences) == 5
    for word in ("sead", "resnet2:", "loss.kd.temperature=-1", "out=file/runs", "dataset.batch_size=x"):
        assert sum(word in sentence for sentence in sentences) == 1, (word, sentences)


def test_check__is_what_train_says(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["check", *CPU, "loss.kd.temperature=-1"]) == 2
    assert "loss.kd.temperature=-1" in said(capsys)[0]


@pytest.mark.slow
def test_train__wrong_cells(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    before = written(place)
    sweep = [
        "loss.kd.temperature=1,-1,2",
        "student=digits_tiny,resnet2",
        "optimizer.lr=choice(0.1,x)",
        "seed=range(0,9)",
    ]
    assert main(["train", "-m", *CPU, *sweep]) == 2
    sentences = said(capsys)
    assert len(sentences) == 3
    for word in ("loss.kd.temperature=-1", "student=resnet2", "optimizer.lr=x"):
        assert sum(word in sentence for sentence in sentences) == 1, (word, sentences)
    assert written(place) == before


def test_train__interval_without_search(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["train", "-m", *CPU, "optimizer.lr=interval(0.1,1)"]) == 2
    assert "add hydra/sweeper=optuna" in said(capsys)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed, word",
    [("optimizer.lrr=interval(0.1,1)", "optimizer.lr"), ("loss.kd.temperature=interval(-1,1)", "above 0")],
)
def test_train__wrong_search(
    typed: str, word: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(place)
    assert main(["train", "-m", *CPU, "+search=optimizer", typed]) == 2
    (sentence,) = said(capsys)
    assert typed.partition("=")[0] in sentence
    assert word in sentence


@pytest.mark.parametrize("key", ["--config-dir", "--config-name", "--config-path"])
def test_train__wrong_folder_of_configs(
    key: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert main(["train", *CPU, key, "nowhere"]) == 2
    (sentence,) = said(capsys)
    assert "nowhere" in sentence
