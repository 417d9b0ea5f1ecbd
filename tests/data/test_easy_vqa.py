"""easy-VQA as its package has it, and what words alone are worth on it."""

import importlib.util
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from distill.data.base import ImageData
from distill.evaluate import scores
from distill.priors import credited, prior
from tests.data.test_base import from_config

easy_vqa = pytest.importorskip("easy_vqa", reason="the extra vqa is not installed")


@pytest.fixture(scope="module")
def data() -> ImageData:
    # nothing is decoded: the images are looked at one by one
    return from_config("dataset=easy_vqa", "dataset.val_fraction=0", "dataset.resident_gb=0")


def test_easy_vqa__is_what_the_package_gives(data: ImageData) -> None:
    assert [len(data.splits[name]) for name in ("train", "test")] == [38_575, 9_673]
    assert (len(data.texts), sorted(data.classes)) == (107, sorted(easy_vqa.get_answers()))
    for name, known in (("train", easy_vqa.get_train_questions()), ("test", easy_vqa.get_test_questions())):
        split = data.splits[name]
        words = [data.texts[i] for i in split.notes.text[:, 0]]
        answers = [split.classes[i] for i in split.target]
        assert (words, answers) == (known[0], known[1])
        assert [data.kinds[i] for i in split.notes.kind] == [
            "yes/no" if answer in ("yes", "no") else "open" for answer in known[1]
        ]
        paths = easy_vqa.get_train_image_paths() if name == "train" else easy_vqa.get_test_image_paths()
        for row in (0, 17, len(split) - 1):
            assert Path(split.source.name(int(split.rows[row]))) == Path(paths[known[2][row]])
        assert tuple(split.gather(torch.tensor([5])).shape) == (1, 3, 64, 64)


def test_prior__of_easy_vqa(data: ImageData) -> None:
    train, test = data.splits["train"], data.splits["test"]
    words, answers, _ = easy_vqa.get_train_questions()
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in zip(words, answers, strict=True):
        table[text][answer] += 1
    best = {text: found.most_common(1)[0][0] for text, found in table.items()}
    asked = easy_vqa.get_test_questions()
    right = [best[text] == answer for text, answer in zip(*asked[:2], strict=True)]
    found = prior(train, test, data.texts)
    assert credited(found.question, test.target, test.notes).tolist() == right
    told = scores(torch.eye(13)[found.question], test.target, test.notes, data.kinds, found)
    assert round(told["prior"], 1) == 67.0
    assert round(told["majority"], 1) == 37.3
    assert round(told["prior_by_kind"]["open"], 1) == 23.3
    assert round(told["prior_by_kind"]["yes/no"], 1) == 82.5
    assert told["accuracy"] == pytest.approx(told["prior"])


def test_easy_vqa__says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs the package easy-vqa: pip install 'distill\[vqa\]'"):
        from_config("dataset=easy_vqa").verify()
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "answers.txt").write_text("red")
    (tmp_path / "data" / "train" / "questions.json").write_text(json.dumps([["what?", "blue", 0]]))
    spec = importlib.util.spec_from_file_location("easy_vqa", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(ValueError, match="data: not the data of easy-vqa 1.0"):
        from_config("dataset=easy_vqa").verify()
