"""One table of settings, at least one a loss, that drives every test which holds for all losses."""

import importlib
from typing import Any, NamedTuple

import torch

from distill.losses.base import Loss
from distill.outputs import Batch, Outputs, Spec


class Setting(NamedTuple):
    """One way to use one loss.

    Attributes:
        id: unique name, for pytest.
        name: file in ``distill/losses``, key in ``conf/loss``.
        target: the class.
        kwargs: arguments that differ from the yaml; the taps are names of every CIFAR network with three stages.
        taps: shape of each feature, of the student and of the teacher, as in such a network on 16 x 16 pixels.
    """

    id: str
    name: str
    target: str
    kwargs: dict[str, Any]
    taps: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


SETTINGS = [
    Setting("ce", "ce", "distill.losses.ce.CE", {}, {}),
    Setting("ce_smooth", "ce", "distill.losses.ce.CE", {"label_smoothing": 0.1}, {}),
    Setting("kd", "kd", "distill.losses.kd.KD", {"temperature": 4.0}, {}),
    Setting("kd_plain", "kd", "distill.losses.kd.KD", {"temperature": 1.0, "t2": False}, {}),
    Setting("dkd", "dkd", "distill.losses.dkd.DKD", {"temperature": 4.0, "beta": 2.0}, {}),
    Setting("dist", "dist", "distill.losses.dist.DIST", {"temperature": 4.0}, {}),
    Setting("dist_cold", "dist", "distill.losses.dist.DIST", {"temperature": 1.0, "gamma": 2.0}, {}),
    Setting("logit_mse", "logit_mse", "distill.losses.logit_mse.LogitMSE", {}, {}),
    Setting("fitnet", "fitnet", "distill.losses.fitnet.FitNet", {}, {"stage2": ((6, 8, 8), (10, 8, 8))}),
    Setting(
        "fitnet_projector",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "stage3", "teacher_tap": "stage3", "connector": "projector"},
        {"stage3": ((12, 4, 4), (20, 4, 4))},
    ),
    Setting(
        "fitnet_halve",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "stage1", "teacher_tap": "stage2"},
        {"stage1": ((3, 16, 16), (5, 16, 16)), "stage2": ((6, 8, 8), (10, 8, 8))},
    ),
    Setting(
        "fitnet_double",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "stage3", "teacher_tap": "stage2"},
        {"stage2": ((6, 8, 8), (10, 8, 8)), "stage3": ((12, 4, 4), (20, 4, 4))},
    ),
    Setting(
        "fitnet_pooled",
        "fitnet",
        "distill.losses.fitnet.FitNet",
        {"student_tap": "pooled", "teacher_tap": "pooled"},
        {"pooled": ((12,), (20,))},
    ),
]


def build(setting: Setting) -> Loss:
    """Return the loss of a setting, not prepared."""
    module, name = setting.target.rsplit(".", 1)
    loss: Loss = getattr(importlib.import_module(module), name)(**setting.kwargs)
    return loss


def prepare(setting: Setting, classes: int = 5, seed: int = 0) -> Loss:
    """Return the loss of a setting with its connectors, their weights set by ``seed``."""
    torch.manual_seed(seed)
    loss = build(setting)
    shapes = {"logits": ((classes,), (classes,)), **setting.taps}
    loss.prepare({k: Spec(s) for k, (s, _) in shapes.items()}, {k: Spec(t) for k, (_, t) in shapes.items()})
    return loss


def example(
    setting: Setting, samples: int = 6, classes: int = 5, scale: float = 1.0, seed: int = 0
) -> tuple[Outputs, Outputs, Batch]:
    """Return random outputs of a student, which require gradients, and of a teacher, and a batch."""
    random = torch.Generator().manual_seed(seed)

    def outputs(which: int) -> Outputs:
        features = {k: torch.randn(samples, *s[which], generator=random) * scale for k, s in setting.taps.items()}
        return Outputs(torch.randn(samples, classes, generator=random) * scale, features)

    student, teacher = outputs(0), outputs(1)
    for tensor in (student.logits, *student.features.values()):
        tensor.requires_grad_()
    target = torch.randint(classes, (samples,), generator=random)
    number = torch.arange(samples)
    return student, teacher, Batch(torch.zeros(samples, 3, 16, 16, dtype=torch.uint8), target, number, 0 * number)
