"""One table of settings, at least one a loss, that drives every test which holds for all losses."""

import importlib

import torch

from distill.losses.base import Loss
from distill.outputs import Batch, Outputs, Spec

from .families.blocks import BLOCKS
from .families.features import FEATURES
from .families.logits import LOGITS
from .families.phases import PHASES
from .families.relations import RELATIONS
from .families.setting import Setting
from .families.views import VIEWS

SETTINGS: list[Setting] = [*LOGITS, *FEATURES, *BLOCKS, *RELATIONS, *VIEWS, *PHASES]


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
