"""Accuracy with credit, by kind, and of answers without a look, by hand; and in the record of a training."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from distill.cli import main
from distill.config import compose, resolved
from distill.corruption import corrupted
from distill.data.images import ArrayImages, Notes
from distill.evaluate import scores
from distill.fit import fit, folder_of
from distill.priors import credited, prior
from distill.records import read_json
from distill.trained import load
from tests.data.test_vqa import QUESTIONS, TEST, write

TEXTS = ["what?", "who?", "what?", "where?"]  # the same words in two rows


def questions(target: list[int], text: list[int], credit: list[list[tuple[int, float]]] | None = None) -> ArrayImages:
    notes = Notes(text=torch.tensor(text)[:, None], kind=torch.tensor([t % 2 for t in text]))
    if credit is not None:
        notes = notes._replace(
            answers=torch.tensor([[a for a, _ in row] for row in credit]),
            credit=torch.tensor([[c for _, c in row] for row in credit]),
        )
    return ArrayImages(torch.zeros(len(target), 1, 2, 2, dtype=torch.uint8), torch.tensor(target), "abc", notes=notes)


def test_prior__most_given_answer_to_the_same_words() -> None:
    train = questions([1, 2, 0, 0, 2, 1], [0, 0, 2, 1, 1, 2])
    asked = questions([0, 0, 0], [2, 1, 3])
    found = prior(train, asked, TEXTS)
    assert found.majority.tolist() == [1, 1, 1]  # each answer was given twice, and 1 first
    # what?: 1, 2, 0, 1; who?: 0, 2 and 0 came first; where? was not asked
    assert found.question.tolist() == [1, 0, 1]


def test_prior__weighs_by_credit() -> None:
    train = questions([0, 1, 1], [0, 0, 1], [[(0, 1.0), (2, 0.9)], [(1, 1.0), (2, 0.9)], [(1, 0.3), (-1, 0.0)]])
    found = prior(train, questions([0, 0], [0, 1]), TEXTS)
    assert found.question.tolist() == [2, 1]
    assert found.majority.tolist() == [2, 2]


def test_prior__is_of_questions_only() -> None:
    captioned = ArrayImages(
        torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1).long(), notes=Notes(text=torch.zeros(1, 2).long())
    )
    with pytest.raises(ValueError, match="one a sample"):
        prior(captioned, captioned, TEXTS)


def test_scores__with_credit_by_hand() -> None:
    notes = questions([0, 1, 0], [0, 1, 0], [[(0, 1.0), (1, 0.5)], [(1, 0.6), (-1, 0.0)], [(-1, 0.0), (-1, 0.0)]]).notes
    target, logits = torch.tensor([0, 1, 0]), torch.tensor([[0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    assert credited(logits.argmax(1), target, notes).tolist() == pytest.approx([0.5, 0.6, 0.0])
    found = scores(logits, target, notes, ["even", "odd", "none"])
    assert found["accuracy"] == pytest.approx(100 * 1.1 / 3)
    assert found["top5"] == pytest.approx(100 * 1.6 / 3)
    # likelihood is of the two questions that have an answer
    assert found["nll"] == pytest.approx((-logits[:2].log_softmax(1)[[0, 1], [0, 1]]).mean().item())
    assert found["by_class"] == [pytest.approx(25.0), pytest.approx(60.0), None]
    assert found["by_kind"] == {"even": pytest.approx(25.0), "odd": pytest.approx(60.0), "none": None}
    assert found["samples"] == 3


def test_scores__without_notes_is_plain_accuracy() -> None:
    found = scores(torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]), torch.tensor([0, 1]))
    assert (found["accuracy"], found["top5"]) == (50.0, 100.0)
    assert not {"by_kind", "prior", "majority"} & set(found)


FEW = [
    "dataset.images=60", "dataset.test_images=30", "dataset.image_size=[32,32]", "dataset.batch_size=30",
    "student=resnet8", "teacher=[]", "loss=[ce]", "trainer.max_epochs=1", "trainer.accelerator=cpu",
    "seeds=1",
]  # fmt: skip


def trained(out: Path, *overrides: str) -> dict[str, Any]:
    assert main(["train", *FEW, *overrides, f"out={out}", f"hydra.run.dir={out}/compare"]) == 0
    (path,) = out.glob("shapesvqa-*/result.json")
    record = read_json(path)
    assert record is not None
    return {"folder": path.parent, **record}


@pytest.mark.slow
def test_train__the_record_has_kinds_and_priors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = trained(tmp_path, "dataset=shapes_vqa")
    test = found["test"]
    assert set(test["by_kind"]) == set(test["prior_by_kind"]) == {"color", "shape"}
    said = f"the most frequent answer {test['majority']:.2f} %, the usual answer to each question {test['prior']:.2f} %"
    assert said in " ".join(capsys.readouterr().out.split())
    with (found["folder"] / "metrics.csv").open() as lines:
        last = list(csv.DictReader(lines))[-1]
    assert {kind: float(last[f"test/{kind}"]) for kind in ("color", "shape")} == found["test_last"]["by_kind"]
    again = load(found["folder"]).evaluate()
    assert again["by_kind"] == pytest.approx(test["by_kind"])
    assert (again["prior"], again["majority"]) == pytest.approx((test["prior"], test["majority"]))
    assert main(["eval", str(found["folder"])]) == 0
    assert f"{test['by_kind']['color']:.2f} % of kind color" in capsys.readouterr().out


def test_fit__accuracy_in_training_and_validation_is_the_credit(tmp_path: Path) -> None:
    for split, asked in (("train", QUESTIONS), ("test", TEST)):
        write(tmp_path, split, asked)
    files = [f"dataset.{s}_{k}={s}_{k}.json" for s in ("train", "test") for k in ("questions", "annotations")]
    cfg = resolved(compose([
        "dataset=vqa", f"dataset.root={tmp_path}", *files, "dataset.test_images=test2014", "dataset.val_fraction=0",
        "dataset.image_name='COCO_{folder}_{id:012d}.png'", "dataset.image_size=[8,8]", "dataset.channels=1",
        "dataset.mean=[0.5]", "dataset.std=[0.5]", "dataset.num_classes=4", "dataset.workers=0", "teacher=[]",
        "student._target_=tests.networks_for_tests.mlp", "+student.hidden=32", "~student.width", "~student.channels",
        "loss=[ce]", "optimizer.lr=0", "trainer.max_epochs=1", "trainer.accelerator=cpu", "quiet=true",
        f"out={tmp_path}",
    ]))  # fmt: skip
    record = fit(cfg, [], "vqa")
    loaded = load(folder_of(cfg))
    row = record["history"][0]
    for name, key in (("train", "train/accuracy"), ("test", "test/accuracy")):
        scored = next(iter(loaded.data.loader(name))).scores
        assert scored is not None
        told = loaded.predict(name)[0].argmax(1).tolist()
        credit = [scored[i, answer].item() for i, answer in enumerate(told)]
        assert 0 < sum(credit) < len(credit)
        assert row[key] == pytest.approx(100 * sum(credit) / len(credit))
    assert row["test/accuracy"] == pytest.approx(record["test"]["accuracy"])
    assert row["test/nll"] == pytest.approx(record["test"]["nll"])
    assert set(record["test"]["by_kind"]) == {"yes/no", "number", "other"}
    under = loaded.corrupted(level=2)
    for kind in ("noise", "blur"):
        (batch,) = corrupted(loaded.data.loader("test"), kind, 2)
        told = loaded.student(batch.inputs).logits.argmax(1).tolist()
        assert batch.scores is not None
        credit = [batch.scores[i, answer].item() for i, answer in enumerate(told)]
        assert under[kind] == pytest.approx(100 * sum(credit) / len(credit))
