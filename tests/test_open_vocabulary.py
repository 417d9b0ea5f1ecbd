"""Names of new classes, and images by a text, of a student that an image-text teacher taught."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from distill.config import ConfigError
from distill.fit import fit, folder_of
from distill.networks.aligned import Aligned
from distill.trained import Loaded, load
from tests.fake_clip import FakeCLIP
from tests.test_cross_modal import config


@pytest.fixture(scope="module", params=[True, False], ids=["anchored", "own classifier"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("aligned")
    cfg = config(
        "loss=[clip_feature]", f"student.anchored={request.param}", f"out={folder}", "optimizer.lr=0.02",
        "dataset.samples=200", "trainer.max_epochs=4", "loss.clip_feature.weight=10",
    )  # fmt: skip
    fit(cfg, [], "aligned")
    return load(folder_of(cfg))


def test_predict__other_classes_by_their_names(loaded: Loaded) -> None:
    images = loaded.data.splits["test"].gather(torch.arange(6))
    names = ["green", "red", "white cat", "yellow"]
    text = FakeCLIP(5, 3).encode_classes(names)
    network = loaded.student.network
    assert isinstance(network, Aligned)
    x = loaded.student.normalize(images)
    dense = network.projector(network.backbone(x)[1])
    expected = 20 * normalize(dense.mean((2, 3)), dim=1) @ text.T
    torch.testing.assert_close(loaded.predict(images, labels=names), expected.detach(), rtol=1e-4, atol=1e-4)
    assert loaded.predict(images).shape == (6, 5)  # the classes of the training are what they were
    torch.testing.assert_close(loaded.predict(images), loaded.predict("test")[0][:6])


def test_predict__names_of_the_training_give_the_logits_of_an_anchored_student(loaded: Loaded) -> None:
    images = loaded.data.splits["test"].gather(torch.arange(6))
    network = loaded.student.network
    assert isinstance(network, Aligned)
    if network.anchored:
        torch.testing.assert_close(
            loaded.predict(images, labels=loaded.data.classes), loaded.predict(images), rtol=1e-4, atol=1e-3
        )


def test_retrieve__images_of_the_word_come_first(loaded: Loaded) -> None:
    found, cosines = loaded.retrieve("a photo of red", k=8)
    assert cosines.tolist() == sorted(cosines.tolist(), reverse=True)
    target = loaded.data.splits["test"].target[found]
    share = (target == loaded.data.classes.index("red")).float().mean()
    assert share > 0.6  # 0.2 by chance
    assert len(loaded.retrieve("red", k=10_000)[0]) == len(loaded.data.splits["test"])


def changed(loaded: Loaded, change: Callable[[dict], None]) -> Loaded:
    teacher = {name: dict(node) for name, node in loaded.config["teacher"].items()}
    change(teacher)
    return Loaded({**loaded.config, "teacher": teacher}, None, loaded.weights, loaded.student, loaded.data)


def test_predict__without_a_teacher_that_reads(loaded: Loaded) -> None:
    other = changed(loaded, lambda teacher: teacher["resnet14"].update(checkpoint="/not/there.ckpt"))
    with pytest.raises(ConfigError, match=r"checkpoint=/not/there\.ckpt: is not there; say where it is"):
        other.predict(torch.zeros(1, 3, 16, 16), labels=["a"])
    network = {"_target_": "distill.networks.cifar.resnet.resnet8", "num_classes": 5, "channels": 3}
    other = changed(loaded, lambda teacher: teacher["resnet14"].update(network=network))
    with pytest.raises(ConfigError, match="none of this training embeds words"):
        other.predict(torch.zeros(1, 3, 16, 16), labels=["a"])


def test_predict__a_student_without_vectors(tmp_path: Path) -> None:
    cfg = config("student=resnet8", "loss=[ce,kd]", f"out={tmp_path}", "trainer.max_epochs=1")
    fit(cfg, [], "plain")
    plain = load(folder_of(cfg))
    with pytest.raises(ConfigError, match="ResNet has no vectors .* train student=aligned"):
        plain.predict(torch.zeros(1, 3, 16, 16), labels=["a"])
    with pytest.raises(ConfigError, match="ResNet has no vectors"):
        plain.retrieve("a")


def test_load__other_classes_are_asked_of_an_anchored_student_by_name(loaded: Loaded) -> None:
    network = loaded.student.network
    assert isinstance(network, Aligned)
    if not network.anchored:
        with pytest.raises(ConfigError, match="gives 5 classes"):
            load(loaded.weights.parent, ["dataset.num_classes=3"])
        return
    other = load(loaded.weights.parent, ["dataset.num_classes=3"])
    assert list(other.data.classes) == list(loaded.data.classes[:3])
    logits, target = other.predict()
    assert logits.shape == (len(target), 3)
    images = other.data.splits["test"].gather(torch.arange(6))
    torch.testing.assert_close(logits[:6], loaded.predict(images)[:, :3], rtol=1e-4, atol=1e-3)
    assert other.evaluate()["samples"] == len(target)
