"""The VQA v2 layout in a tiny folder: credit, vocabulary, images that questions share, and what can be wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from distill.data.base import ArrayImages
from distill.data.vqa import VQA, averaged_credit, normalised
from tests.data.test_base import from_config

QUESTIONS = {  # image, question, answers of ten people, kind
    1: (42, "is it red?", ["yes"] * 7 + ["no"] * 3, "yes/no"),
    2: (42, "what is it?", ["A cat."] * 4 + ["dog"] * 2 + ["lynx"] * 4, "other"),
    3: (7, "is it red?", ["no"] * 10, "yes/no"),
    4: (7, "how many?", ["two", "2"] * 5, "number"),
    5: (8, "is it red?", ["no"] * 9 + ["maybe"], "yes/no"),
    6: (8, "what is it?", ["gnu"] * 10, "other"),
    7: (9, "what is it?", ["cat"] * 10, "other"),
}
TEST = {
    11: (3, "is it red?", ["no"] * 1 + ["yes"] * 9, "yes/no"),
    12: (3, "what is it?", ["newt"] * 10, "other"),
    13: (3, "how many?", ["2"] * 2 + ["3"] * 8, "number"),
}


def write(root: Path, split: str, asked: dict[int, Any]) -> None:
    questions = [{"question_id": n, "image_id": q[0], "question": q[1]} for n, q in asked.items()]
    annotations = [
        {"question_id": n, "answer_type": q[3], "answers": [{"answer": a} for a in q[2]]} for n, q in asked.items()
    ]
    # the two files have their own orders
    (root / f"{split}_questions.json").write_text(json.dumps({"questions": questions}))
    (root / f"{split}_annotations.json").write_text(json.dumps({"annotations": annotations[::-1]}))
    (root / f"{split}2014").mkdir(exist_ok=True)
    for number in {q[0] for q in asked.values()}:
        image = Image.new("RGB", (12, 10), (number, 0, 0))
        image.save(root / f"{split}2014" / f"COCO_{split}2014_{number:012d}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "train", QUESTIONS)
    write(tmp_path, "test", TEST)
    return tmp_path


def vqa(root: Path, *overrides: str, classes: int = 4) -> VQA:
    files = [f"dataset.{s}_{k}={s}_{k}.json" for s in ("train", "test") for k in ("questions", "annotations")]
    data = from_config(
        "dataset=vqa", f"dataset.root={root}", *files, "dataset.test_images=test2014", "dataset.val_fraction=0",
        "dataset.image_name='COCO_{folder}_{id:012d}.png'", "dataset.image_size=[10,12]",
        f"dataset.num_classes={classes}", "dataset.workers=0", *overrides,
    )  # fmt: skip
    assert isinstance(data, VQA)
    return data


def test_vqa__credit_vocabulary_and_target(root: Path) -> None:
    data = vqa(root)
    # the most given answer of two questions: cat, no; of one: yes, 2, gnu; each in the order of the file
    assert data.classes == ["cat", "no", "yes", "2"]
    train, test = data.splits["train"], data.splits["test"]
    assert [data.texts[i] for i in train.notes.text[:, 0]] == [QUESTIONS[n][1] for n in (1, 2, 3, 4, 5, 7)]
    assert train.target.tolist() == [2, 0, 1, 3, 1, 0]  # 6 has no answer that is a class
    batch = next(iter(data.loader("train")))
    assert batch.scores.tolist() == [
        [0, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0],
    ]  # fmt: skip
    tested = next(iter(data.loader("test"))).scores
    assert tested.tolist() == [[0, pytest.approx(1 / 3), 1, 0], [0, 0, 0, 0], [0, 0, 0, pytest.approx(2 / 3)]]
    assert [data.kinds[i] for i in test.notes.kind] == ["yes/no", "other", "number"]


def test_vqa__questions_share_images(root: Path) -> None:
    train = vqa(root).splits["train"]
    assert isinstance(train, ArrayImages)
    assert len(train.images) == 4
    assert train.gather(torch.arange(6))[:, 0, 0, 0].tolist() == [42, 42, 7, 7, 8, 9]
    assert (train.ids.tolist(), train.source_size) == ([0, 1, 2, 3, 4, 5], 6)
    later = vqa(root, "dataset.resident_gb=0").splits["train"]
    assert torch.equal(later.gather(torch.arange(6)), train.gather(torch.arange(6)))
    assert (later.ids.tolist(), later.source_size) == ([0, 1, 2, 3, 4, 5], 6)
    blind = vqa(root, "dataset.resident_gb=0", "dataset.blind=true").splits["train"]
    assert (blind.gather(torch.arange(6)) == 128).all()


def test_vqa__held_out_images_take_all_their_questions(root: Path) -> None:
    data = vqa(root, "dataset.val_fraction=0.5")
    images = {name: set(data.splits[name].gather(torch.arange(len(data.splits[name])))[:, 0, 0, 0].tolist())
              for name in ("train", "val")}  # fmt: skip
    assert not images["train"] & images["val"]
    assert len(images["val"]) == 2
    assert sorted(torch.cat([data.splits[n].ids for n in ("train", "val")]).tolist()) == list(range(6))


def test_vqa__class_subset_renumbers_answers(root: Path) -> None:
    data = vqa(root, "dataset.class_subset=[2,1]", classes=2)
    assert data.classes == ["yes", "no"]
    batch = next(iter(data.loader("train")))
    assert batch.target.tolist() == [0, 1, 1]
    assert batch.scores.tolist() == [[1, 1], [0, 1], [0, 1]]


def test_averaged_credit__is_the_mean_over_leaving_one_out() -> None:
    for count in range(11):
        people = ["right"] * count + ["wrong"] * (10 - count)
        left = [people[:i] + people[i + 1 :] for i in range(10)]
        mean = sum(min(others.count("right") / 3, 1) for others in left) / 10
        assert averaged_credit(count) == pytest.approx(mean)
    assert [round(averaged_credit(n), 9) for n in (1, 2, 3, 4)] == [0.3, 0.6, 0.9, 1]


def test_vqa__averaged(root: Path) -> None:
    tested = next(iter(vqa(root, "dataset.averaged=true").loader("test"))).scores
    assert tested[:, 1].tolist() == [pytest.approx(0.3), 0, 0]
    assert tested[2, 3].item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    "given, expected",
    [("A cat.", "cat"), ("two", "2"), ("The  Red, big one!", "red big 1"), ("2.5", "2.5"), ("it's", "it's")],
)
def test_normalised__as_it_is_scored(given: str, expected: str) -> None:
    assert normalised(given) == expected


def test_vqa__answers_from_a_file(root: Path) -> None:
    words = ["yes", "no", "cat", "2", "gnu", "newt"]
    (root / "answers.txt").write_text("\n".join(words) + "\n")
    data = vqa(root, "dataset.answers=answers.txt", classes=6)
    assert data.classes == words
    assert data.splits["train"].target.tolist() == [0, 2, 1, 3, 1, 4, 2]
    (root / "answers.txt").write_text("yes\nno\ncat\n2\n")
    message = r"answers.txt: has no answer to 1 of 7 train questions, such as 'gnu' \(question 6\); add them, or set"
    with pytest.raises(ValueError, match=message):
        vqa(root, "dataset.answers=answers.txt").verify()
    zero = vqa(root, "dataset.answers=answers.txt", "dataset.outside=zero")
    assert [len(zero.splits[n]) for n in ("train", "test")] == [6, 3]


def _spoil(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text(text)


def _fewer_annotations(root: Path) -> None:
    path = root / "train_annotations.json"
    path.write_text(json.dumps({"annotations": json.loads(path.read_text())["annotations"][:-1]}))


@pytest.mark.parametrize(
    "damage, overrides, error, message",
    [
        (None, ["dataset.train_questions=q.json"], FileNotFoundError, "train_questions=q.json: there is no .*q.json"),
        (None, ["dataset.test_images=val2014"], FileNotFoundError, "dataset.test_images=val2014: there is no"),
        (None, ["dataset.num_classes=9"], ValueError, "set dataset.num_classes=5"),
        (None, ["dataset.image_name='{name}.jpg'"], ValueError, "must be a name with {folder} and {id}"),
        (None, ["dataset.answers=none.txt"], FileNotFoundError, "dataset.answers=none.txt: there is no"),
        (_spoil("train_questions.json", "{"), [], ValueError, "train_questions.json: cannot be read as JSON"),
        (_spoil("train_questions.json", "[]"), [], ValueError, 'must be {"questions": .* with question_id, image_id'),
        (_spoil("test_annotations.json", '{"annotations": [{"question_id": 1}]}'), [], ValueError,
         "with question_id, answers"),
        (_fewer_annotations, [], ValueError, "has no answers to 1 of 7 questions, as 1"),
        (_spoil("a.txt", "yes\nno\nYes\n"), ["dataset.answers=a.txt"], ValueError, "has 'yes' twice; it must have one"),
        (_spoil("a.txt", ""), ["dataset.answers=a.txt"], ValueError, "a.txt: is empty"),
        (lambda r: (r / "train2014/COCO_train2014_000000000042.png").unlink(), [], FileNotFoundError,
         "train2014: 1 of 4 images are missing, as COCO_train2014_000000000042.png"),
        (_spoil("test2014/COCO_test2014_000000000003.png", "no image"), [], ValueError, "03.png: cannot be decoded"),
    ],
)  # fmt: skip
def test_vqa__says_what_is_wrong(
    root: Path, damage: Callable[[Path], object] | None, overrides: list[str], error: type[Exception], message: str
) -> None:
    if damage is not None:
        damage(root)
    with pytest.raises(error, match=message):
        vqa(root, *overrides).verify()
