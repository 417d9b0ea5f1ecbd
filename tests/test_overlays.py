"""Overlays: drawn where they are asked for, right place for right place, and sent to W&B."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from distill.assemble import assemble
from distill.fit import fit, folder_of
from distill.outputs import Batch
from distill.overlays import Overlays, Picture, draw, pictures, varied
from tests.test_cross_modal import config


def test_varied__each_class_once_before_any_twice() -> None:
    assert varied(torch.tensor([2, 2, 0, 2, 1, 0]), 4).tolist() == [0, 2, 4, 1]
    assert varied(torch.tensor([1, 1]), 5).tolist() == [0, 1]


def test_pictures__grey_images_and_samples_without_a_box() -> None:
    number = torch.arange(2)
    box = torch.tensor([[0.0, 0.0, 0.5, 1.0], [math.nan] * 4])
    batch = Batch(torch.full((2, 1, 4, 4), 255, dtype=torch.uint8), number, number, number, box=box)
    first, second = pictures(batch, ["one", "two"], {"student": torch.rand(2, 3, 3)})
    assert first.image.shape == (4, 4, 3)
    assert first.image.max() == 1
    assert first.box == (0.0, 0.0, 0.5, 1.0)
    assert second.box is None
    assert second.word == "two"


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


def test_run__draws_after_the_first_and_the_last_epoch(tmp_path: Path) -> None:
    cfg = config("loss=[ce,map_semantic]", "overlays=3", f"out={tmp_path}")
    plain = fit(config("loss=[ce,map_semantic]", f"out={tmp_path / 'plain'}"), [], "plain")
    record = fit(cfg, [], "drawn")
    assert sorted(p.name for p in (folder_of(cfg) / "overlays").iterdir()) == ["epoch_0001.png", "last.png"]
    for one, other in zip(plain["history"], record["history"], strict=True):  # drawing changes nothing
        assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}


def test_run__none_for_a_student_without_a_map(tmp_path: Path) -> None:
    cfg = config("student=resnet8", "loss=[ce,kd]", "overlays=3", f"out={tmp_path}")
    fit(cfg, [], "plain student")
    assert not (folder_of(cfg) / "overlays").exists()


def test_draw__sends_them_to_wandb(tmp_path: Path) -> None:
    class Sent(WandbLogger):
        def __init__(self) -> None:
            self.images: dict[str, list[str]] = {}

        def log_image(self, key: str, images: list[str], *_: object, **__: object) -> None:
            self.images[key] = images

    logger = Sent()
    parts = assemble(config("loss=[ce,kd]"))
    trainer = SimpleNamespace(is_global_zero=True, current_epoch=0, loggers=[logger])
    callback = Overlays(tmp_path, parts.data, 2)
    callback.on_train_epoch_end(trainer, parts.module)  # type: ignore[arg-type]
    trainer.current_epoch = 1
    callback.on_train_epoch_end(trainer, parts.module)  # type: ignore[arg-type]
    assert logger.images == {"overlays/epoch_0001": [str(tmp_path / "overlays" / "epoch_0001.png")]}
    assert parts.module.student.training  # as it was
    assert Path(logger.images["overlays/epoch_0001"][0]).is_file()
