"""Classes that training shows no image of: asked for by their names after it, and what cannot be asked."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from distill.check import problems
from distill.comparison import alone, teacher_config
from distill.config import compose, fingerprint
from distill.data.images import Images
from distill.fit import fit, folder_of, identity
from distill.tables.spec import load as declared
from distill.trained import load
from tests.fake_clip import STUDENT, TEACHER, Boxes
from tests.test_cross_modal import FAST, config

THREE = (
    "dataset._target_=tests.test_unseen.AllBoxes", "dataset.num_classes=3", "dataset.class_subset=3",
)  # fmt: skip
UNSEEN = "unseen_classes=[4,3]"


@dataclass(kw_only=True, eq=False, repr=False)
class AllBoxes(Boxes):
    """Boxes of all five colours, however many of them are kept."""

    def read(self) -> tuple[Images, Images]:
        every = replace(self, num_classes=5, class_subset=None)
        found = Boxes.read(every)
        self._texts = every._texts
        return found


@pytest.mark.slow
@pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "own classifier"])
def test_unseen__is_what_the_loaded_student_says_of_the_names(anchored: bool, tmp_path: Path) -> None:
    cfg = config(
        "loss=[clip_feature]", "loss.clip_feature.weight=10", f"student.anchored={anchored}", f"out={tmp_path}",
        *THREE, UNSEEN, "dataset.samples=150", "optimizer.lr=0.02", "trainer.max_epochs=3",
    )  # fmt: skip
    record = fit(cfg, [], "aligned")
    folder = Path(folder_of(cfg))
    loaded = load(folder, ["dataset.class_subset=[4,3]", "dataset.num_classes=2"] if anchored else [])
    test = replace(loaded.data, class_subset=[4, 3], num_classes=2).splits["test"]
    said = loaded.predict(test.gather(torch.arange(len(test))), labels=["pink", "yellow"]).argmax(1)
    expected = 100 * (said == test.target).float().mean().item()
    assert expected > 60  # 50 by chance
    assert record["test_last"]["unseen"] == pytest.approx(expected)
    with (folder / "metrics.csv").open() as lines:
        assert float(list(csv.DictReader(lines))[-1]["test/unseen"]) == pytest.approx(expected)
    if anchored:
        assert loaded.evaluate()["accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("dataset.class_subset=null", UNSEEN), "training shows every class; leave some out with dataset.class_subset"),
        (("unseen_classes=[2,3]",), "unseen_classes=[2, 3]: training shows 2, which is in dataset.class_subset=3"),
        (("unseen_classes=[3,7]",), "unseen_classes=[3, 7]: dataset.class_subset=[3, 7]: must be a number of classes"),
        (("unseen_classes=two",), "unseen_classes"),
        ((UNSEEN, "student=resnet8", "loss=[ce,kd]"), "names need student=aligned and a teacher that embeds them"),
    ],
)
def test_problems__of_classes_that_cannot_be_asked(overrides: tuple[str, ...], said: str) -> None:
    student = () if "student=resnet8" in overrides else STUDENT
    data = ("dataset=synthetic", "dataset.mean=[0.5,0.5,0.5]", "dataset.std=[0.5,0.5,0.5]")
    loss = () if "student=resnet8" in overrides else ("loss=[clip_feature]",)
    try:
        found = problems(compose([*student, *TEACHER, *data, *loss, *FAST, *THREE, *overrides]))
    except Exception as error:  # Hydra refuses a value of another type itself
        found = [str(error)]
    assert len(found) == 1
    assert said in found[0]


def test_identity__of_those_not_asked_is_as_before_and_trainings_without_names_are_not_asked() -> None:
    plain, asked = config("loss=[clip_feature]", *THREE), config("loss=[clip_feature]", *THREE, UNSEEN)
    assert "unseen_classes" not in identity(plain)
    assert fingerprint(identity(plain)) != fingerprint(identity(asked))
    assert alone(asked, 0)["unseen_classes"] is None
    assert teacher_config(asked, "resnet14")["unseen_classes"] is None


def test_table__its_student_alone_is_not_asked() -> None:
    table = declared(Path("experiments/clip_cifar100"))
    cells = {cell.row: table.overrides_of(cell) for cell in table if cell.seed == 0}
    assert all("unseen_classes=null" in cells[row] for row in ("alone", "alone_10"))
    assert "unseen_classes=null" not in cells["feature"]
