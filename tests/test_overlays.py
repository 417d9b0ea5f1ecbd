"""Overlays: drawn where they are asked for, right place for right place, of class maps and of attention."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from distill.assemble import Parts, assemble, input_spec
from distill.comparison import teacher_config
from distill.config import compose, resolved
from distill.data.base import Views
from distill.dryrun import failures
from distill.fit import LAST, STUDENT, fit, folder_of
from distill.modules.cross_modal import CrossModal
from distill.outputs import Batch
from distill.overlays import Attention, ClassMaps, right, source
from distill.pictures import Picture, draw, pictures, varied
from distill.taps import Tapped
from distill.together import Shared
from tests.test_cross_modal import config
from tests.test_pointing import VQA


def test_varied__each_class_once_before_any_twice() -> None:
    assert varied(torch.tensor([2, 2, 0, 2, 1, 0]), 4).tolist() == [0, 2, 4, 1]
    assert varied(torch.tensor([1, 1]), 5).tolist() == [0, 1]


def test_pictures__grey_images_and_samples_without_a_box() -> None:
    number = torch.arange(2)
    box = torch.tensor([[0.0, 0.0, 0.5, 1.0], [math.nan] * 4])
    batch = Batch(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8), number, number, number, box=box)
    first, second = pictures(batch, ["one", "two"], [{"student": torch.rand(3, 3)}, {}])
    assert first.image.shape == (4, 4, 3)
    assert first.image.max() == 1
    assert first.box == (0.0, 0.0, 0.5, 1.0)
    assert second.box is None
    assert (second.words, second.maps) == ("two", {})


def test_draw__the_place_of_most_weight_is_the_brightest(tmp_path: Path) -> None:
    weights = torch.zeros(2, 2)
    weights[0, 1] = 1.0  # above, to the right
    draw([Picture(torch.zeros(8, 8, 3), "a word", None, {"student": weights})], tmp_path / "one.png", "title")
    shown = np.asarray(Image.open(tmp_path / "one.png").convert("L"), dtype=float)
    height, width = shown.shape
    panel = shown[height // 4 :, width // 2 :]  # without the titles
    dark = np.argwhere(panel < 150)  # the panel itself; around it is white
    (top, left), (bottom, right) = dark.min(0), dark.max(0)
    panel = panel[top : bottom + 1, left : right + 1]
    rows, columns = panel.shape[0] // 2, panel.shape[1] // 2
    quarters = [panel[a : a + rows, b : b + columns].mean() for a in (0, rows) for b in (0, columns)]
    assert int(np.argmax(quarters)) == 1


@pytest.mark.parametrize("words", ["circle", "is it $2 or $3 for one of these, and which of them is it?\nyes"])
def test_draw__titles_neither_cut_nor_over_each_other(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (save(self, *a, **k), drawn.append(self)))
    picture = Picture(torch.zeros(8, 8, 3), words, None, {"teacher, dense_value_residual": torch.ones(2, 2)})
    draw([picture, picture], tmp_path / "one.png", "title")
    (figure,) = drawn
    titles = [axis.title.get_window_extent() for axis in figure.axes]
    panels = [axis.get_window_extent() for axis in figure.axes]
    boxes = [*titles, *panels]
    for i, one in enumerate(boxes):
        assert figure.bbox.x0 <= one.x0 < one.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= one.y0 < one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])


@pytest.mark.slow
def test_run__draws_before_the_first_step_and_after_the_last_epoch(tmp_path: Path) -> None:
    cfg = config("loss=[ce,map_semantic]", "overlays=3", f"out={tmp_path}")
    plain = fit(config("loss=[ce,map_semantic]", f"out={tmp_path / 'plain'}"), [], "plain")
    record = fit(cfg, [], "drawn")
    folder = folder_of(cfg) / "overlays"
    assert sorted(p.name for p in folder.iterdir()) == ["before.png", "last.png"]
    assert (folder / "before.png").read_bytes() != (folder / "last.png").read_bytes()
    for one, other in zip(plain["history"], record["history"], strict=True):  # drawing changes nothing
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning's, of a checkpoint of another run
def test_run__not_before_where_it_is_resumed(tmp_path: Path) -> None:
    cfg = config("loss=[ce,kd]", f"out={tmp_path / 'first'}", "trainer.max_epochs=1")
    fit(cfg, [], "first")
    again = config("loss=[ce,kd]", "overlays=2", f"ckpt_path={folder_of(cfg) / LAST}", f"out={tmp_path}")
    fit(again, [], "second")
    assert [p.name for p in (folder_of(again) / "overlays").iterdir()] == ["last.png"]


def test_run__of_the_average_of_weights_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    own = ClassMaps.pictures
    monkeypatch.setattr(
        ClassMaps, "pictures", lambda self, batch: shown.append(_weights(self.module)) or own(self, batch)
    )
    fit(config("loss=[ce,kd]", "overlays=1", "ema_decay=0.9", "trainer.max_epochs=1", f"out={tmp_path}"), [], "average")
    cfg = config("loss=[ce,kd]", "ema_decay=0.9", "trainer.max_epochs=1", f"out={tmp_path}")
    kept = load_file(folder_of(cfg) / STUDENT)
    assert torch.equal(shown[-1], kept["projector.weight"])
    assert not torch.equal(shown[0], shown[-1])


def _weights(module: CrossModal) -> Tensor:
    return module.student.network.get_parameter("projector.weight").detach().clone()


def test_run__none_for_a_student_without_a_map(tmp_path: Path) -> None:
    cfg = config("student=resnet8", "loss=[ce,kd]", "overlays=3", f"out={tmp_path}")
    fit(cfg, [], "plain student")
    assert not (folder_of(cfg) / "overlays").exists()


def questions(*overrides: str) -> dict[str, Any]:
    return resolved(compose([*VQA, *overrides]))


def of_questions(parts: Parts, chosen: list[int]) -> list[Picture]:
    shown = source(parts)
    assert isinstance(shown, Attention)
    return shown.pictures(Views(parts.data.splits["test"], None, 0).__getitems__([(i, 0) for i in chosen]))


def test_attention__question_answer_box_and_where_each_looks() -> None:
    parts = assemble(questions("loss=[ce,kd]"))
    chosen = [0, 3, 5]
    found = of_questions(parts, chosen)
    test, classes = parts.data.splits["test"], parts.data.classes
    images, teacher = test.gather(torch.tensor(chosen)), parts.teachers["vqa"].network
    assert teacher is not None
    assert test.notes.text is not None
    rows = test.notes.text[chosen, 0]
    seen: list[Tensor] = []
    with torch.no_grad():
        handle = teacher.get_submodule("attention").register_forward_hook(lambda _, __, out: seen.append(out))
        said = Tapped(teacher, input_spec(teacher, parts.data.mean, parts.data.std))(images, rows).logits.argmax(1)
        handle.remove()
    for i, picture in enumerate(found):
        target = int(test.target[chosen[i]])
        assert picture.words == f"{parts.data.texts[int(rows[i])]}\n{classes[target]}"
        first, second = picture.maps
        right = "" if said[i] == target else " (wrong)"
        assert first == f"teacher: {classes[int(said[i])]}{right}"
        assert second.startswith("student: ")
        torch.testing.assert_close(picture.maps[first], seen[0][i].mean(0), rtol=1e-4, atol=1e-6)
        assert picture.maps[second].sum() == pytest.approx(1)
        assert test.notes.box is not None
        box = test.notes.box[chosen[i]]
        assert picture.box == (None if box.isnan().any() else tuple(box.tolist()))
    assert parts.module.student.training  # as it was
    batch = Views(test, None, 0).__getitems__([(i, 0) for i in chosen])
    unknown = source(parts).pictures(batch._replace(scores=torch.zeros(3, len(classes))))  # type: ignore[union-attr]
    assert {picture.words.partition("\n")[2] for picture in unknown} == {"(no known answer)"}


def test_attention__right_is_what_gets_credit() -> None:
    answers, number = torch.tensor([0, 1, 2]), torch.arange(3)
    batch = Batch(torch.zeros(3, 1, 2, 2), number, number, number)
    assert right(answers, batch).tolist() == [True, True, True]
    scores = torch.tensor([[0.3, 0, 0], [1, 0, 0], [0, 1, 0.6]])
    assert right(answers, batch._replace(scores=scores)).tolist() == [True, False, True]


def test_attention__student_alone_and_several_teachers() -> None:
    parts = assemble({**questions("loss=[ce]"), "teacher": {}})
    (picture,) = of_questions(parts, [1])
    (name,) = picture.maps
    assert name.startswith("student: ")
    teacher = assemble(questions("loss=[ce,kd]")).teachers["vqa"]
    parts.teachers |= {"one": teacher, "other": teacher}
    (picture,) = of_questions(parts, [1])
    assert [name.partition(":")[0] for name in picture.maps] == ["teacher one", "teacher other", "student"]


def test_attention__teacher_behind_a_cache_and_shared(tmp_path: Path) -> None:
    parts = assemble(questions("loss=[ce,kd]", "cache=on", f"cache.folder={tmp_path}"), caches=True)
    direct = of_questions(assemble(questions("loss=[ce,kd]")), [1])
    parts.teachers["vqa"] = Shared(parts.teachers["vqa"])
    (picture,) = of_questions(parts, [1])
    for name, places in direct[0].maps.items():
        torch.testing.assert_close(picture.maps[name], places)


@pytest.mark.slow
def test_run__questions(tmp_path: Path) -> None:
    cfg = questions("loss=[ce,attention_kl]", "overlays=4", f"out={tmp_path}")
    fit(cfg, [], "questions")
    assert sorted(p.name for p in (folder_of(cfg) / "overlays").iterdir()) == ["before.png", "last.png"]


@pytest.mark.parametrize(
    "cfg, message",
    [
        (config("student=resnet8", "loss=[ce,kd]", "overlays=3"),
         "overlays=3: there is neither a map of classes nor attention to draw; take student=aligned "
         "student@student.network=resnet8 student.width=8; or overlays=0"),
        ({**config("loss=[ce]", "overlays=1"), "teacher": {}},
         "overlays=1: there is neither a map of classes nor attention to draw; take one image-text teacher such as "
         "teacher=[clip]; or overlays=0"),
        (resolved(compose(["overlays=1", "teacher.digits_cnn.checkpoint=built"])),
         "overlays=1: there is neither a map of classes nor attention to draw; take student=aligned with an "
         "image-text teacher, or student=vqa_small with a dataset of questions; or overlays=0"),
    ],
    ids=["plain student", "aligned without a teacher", "neither"],
)  # fmt: skip
def test_check__one_sentence_where_there_is_nothing_to_draw(cfg: dict[str, Any], message: str) -> None:
    tried: set[str] = set()
    assert failures({**cfg, "overlays": 0}, tried) == []
    assert failures(cfg, tried) == [message]  # although the same training without pictures is known to work


def test_check__the_student_alone_and_the_teacher_s_own_training_need_nothing_to_draw() -> None:
    cfg = config("loss=[ce,kd]", "overlays=3")
    assert cfg["alone"]
    assert failures(cfg, set()) == []
    assert teacher_config(questions("loss=[ce,kd]", "overlays=3"), "vqa")["overlays"] == 0
