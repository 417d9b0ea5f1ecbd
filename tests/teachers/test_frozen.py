"""A teacher that normalises by each batch, as the public code of OFD has it, and what cannot be done with one."""

from __future__ import annotations

import pytest
import torch

from distill.check import problems
from distill.config import compose, fingerprint, resolved
from distill.fit import identity
from distill.networks.cifar.resnet import resnet8
from distill.outputs import Batch, InputSpec
from distill.teachers.frozen import Frozen

SPEC = InputSpec((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
SMALL = (
    "dataset=synthetic", "dataset.image_size=[16,16]", "dataset.samples=20", "student=resnet8", "teacher=[resnet14]",
    "teacher.resnet14.checkpoint=built", "loss=[ce,kd]", "trainer.max_epochs=1", "trainer.accelerator=cpu",
)  # fmt: skip


def teacher(batch_norm: str) -> Frozen:
    torch.manual_seed(0)
    made = Frozen(resnet8(4, 3), batch_norm=batch_norm)
    made.read(SPEC, ["stage2"])
    return made


def batch(size: int) -> Batch:
    number = torch.arange(size)
    return Batch(torch.randint(256, (size, 3, 16, 16), dtype=torch.uint8), number % 4, number, 0 * number)


def test_batch_norm__by_the_batch_is_the_network_in_training_mode() -> None:
    made, images = teacher("train"), batch(6)
    torch.manual_seed(0)
    network = resnet8(4, 3).train()
    expected = network((images.inputs / 255 - 0.5) / 0.2)
    found = made(images)
    torch.testing.assert_close(found.logits, expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made(images).features["stage2"], found.features["stage2"])  # nothing drifts
    alone = made(images.take(torch.arange(3))).logits
    assert not torch.allclose(alone, found.logits[:3], atol=1e-2)


def test_batch_norm__by_its_training_sees_each_image_alone() -> None:
    made, images = teacher("eval"), batch(6)
    torch.testing.assert_close(made(images.take(torch.arange(3))).logits, made(images).logits[:3])


def test_batch_norm__says_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="batch_norm must be eval or train, got 'off'"):
        Frozen(resnet8(4, 3), batch_norm="off")
    by_batch = "teacher.resnet14.batch_norm=train"
    assert problems(compose([*SMALL, by_batch])) == []
    (said,) = problems(compose([*SMALL, by_batch, "cache=on"]))
    assert "batch_norm=train: the teacher's answers depend on the batch, so none are kept; set cache=off" in said


def test_batch_norm__as_before_is_the_same_run_as_before() -> None:
    plain, other = (resolved(compose([*SMALL, *more])) for more in ((), ("teacher.resnet14.batch_norm=train",)))
    assert "batch_norm" not in identity(plain)["teacher"]["resnet14"]
    assert fingerprint(identity(plain)) != fingerprint(identity(other))
