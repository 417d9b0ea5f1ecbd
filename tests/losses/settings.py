"""One table of settings, at least one a loss, that drives every test which holds for all losses."""

import torch

from distill.config import build as build_node
from distill.losses.base import Loss
from distill.outputs import Anchors, Batch, Outputs, Spec, TrainingSet

from .families.answers import ANSWERS
from .families.blocks import BLOCKS
from .families.captions import CAPTIONS
from .families.cross import CROSS
from .families.features import FEATURES
from .families.logits import LOGITS
from .families.phases import PHASES
from .families.relations import RELATIONS
from .families.setting import CLASSES, Setting
from .families.views import VIEWS

SETTINGS: list[Setting] = [*LOGITS, *FEATURES, *BLOCKS, *RELATIONS, *VIEWS, *PHASES, *ANSWERS, *CROSS, *CAPTIONS]


def build(setting: Setting) -> Loss:
    """Return the loss of a setting, not prepared."""
    loss: Loss = build_node({"_target_": setting.target, **setting.kwargs}, f"loss.{setting.name}")
    return loss


def prepare(setting: Setting, classes: int = 5, seed: int = 0) -> Loss:
    """Return the loss of a setting with its connectors, their weights set by ``seed``."""
    torch.default_generator.manual_seed(seed)
    loss = build(setting)
    student, teacher = ({"logits": Spec((classes,)), **specs(setting, side, classes)} for side in (0, 1))
    loss.prepare(student, teacher)
    loss.meet(TrainingSet(torch.arange(12) % classes, classes, anchors(setting, classes)))
    return loss


def anchors(setting: Setting, classes: int) -> dict[str, Anchors]:
    """Return the text vectors of a teacher, for the losses that read them."""
    if not setting.anchors:
        return {}
    vectors = torch.randn(classes, setting.anchors, generator=torch.Generator().manual_seed(1))
    return {"teacher": Anchors(torch.nn.functional.normalize(vectors, dim=1), 20.0)}


def specs(setting: Setting, side: int, classes: int = 5) -> dict[str, Spec]:
    """Return the shapes of the features of a setting; side 0 is the student, 1 the teacher."""
    shapes = {name: both[side] for name, both in setting.taps.items()}
    return {name: Spec(tuple(classes if n == CLASSES else n for n in shape)) for name, shape in shapes.items()}


def example(
    setting: Setting, samples: int = 6, classes: int = 5, scale: float = 1.0, seed: int = 0
) -> tuple[Outputs, Outputs, Batch]:
    """Return random outputs of a student, which require gradients, and of a teacher, and a batch."""
    random = torch.Generator().manual_seed(seed)

    def outputs(which: int, many: int = 1) -> Outputs:
        n, shapes = many * samples, specs(setting, which, classes)
        features = {k: torch.randn(n, *s.shape, generator=random) * scale for k, s in shapes.items()}
        return Outputs(torch.randn(n, classes, generator=random) * scale, features)

    student, teacher = outputs(0), outputs(1)
    for which, one in enumerate((student, teacher)):
        one.views = {name: outputs(which, many) for name, many in setting.views.items()}
    for one in (student, *student.views.values()):
        for tensor in (one.logits, *one.features.values()):
            tensor.requires_grad_()
    target = torch.randint(classes, (samples,), generator=random)
    number, pixels = torch.arange(samples), torch.zeros(samples, 3, 16, 16, dtype=torch.uint8)
    return student, teacher, Batch(pixels, target, number, 0 * number, text=number)
