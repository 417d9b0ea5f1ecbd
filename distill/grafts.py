"""Grafts: a teacher's classifier on a student, with a projector between, as a part of the network that is shipped."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import torch
from torch import nn

from distill.connectors.layers import bottleneck
from distill.outputs import Batch, InputSpec, Outputs
from distill.taps import INPUT, Tapped, published
from distill.teachers.base import Teacher

KEY = "graft"
"""Where a checkpoint, or the metadata of a file of weights, says what was grafted."""
TOLERANCE = 0.05
"""Relative difference of logits up to which they are the same, in the rounding of bfloat16."""


@dataclass(frozen=True)
class Wish:
    """What a loss wants grafted.

    Attributes:
        student_tap: map of the student that is averaged for its classifier.
        teacher_tap: map of the teacher that is averaged for its classifier.
        factor: the projector is narrower than the teacher's map by this.
        student_classifier: module path of the student's classifier; None for its last linear layer.
        teacher_classifier: likewise of the teacher.
    """

    student_tap: str
    teacher_tap: str
    factor: int
    student_classifier: str | None
    teacher_classifier: str | None


@dataclass(frozen=True)
class Graft:
    """A projector behind a map of a network and a classifier in the place of its own, as plain values.

    Attributes:
        tap: module path, whose output the projector takes; afterwards it gives what the projector makes of it.
        name: of the tap, which goes on to name that module; other names go on to stand for what they stood for.
        inputs: channels of that output.
        outputs: channels of the projector, and width of the classifier.
        hidden: channels inside the projector.
        height: of the map that the projector gets, averaged down to it where it is larger.
        width: likewise.
        classifier: module path of the classifier.
        classes: of the classifier.
        bias: whether the classifier has one.
    """

    tap: str
    name: str
    inputs: int
    outputs: int
    hidden: int
    height: int
    width: int
    classifier: str
    classes: int
    bias: bool

    def attach(self, network: nn.Module) -> None:
        """Change a network in place; the classifier is fixed, and its weights are still to be loaded.

        Raises:
            ValueError: when the network has no such modules.
        """
        try:
            own = network.get_submodule(self.tap)
            network.get_submodule(self.classifier)
        except AttributeError as error:
            raise ValueError(
                f"a classifier was grafted on {self.classifier!r} behind {self.tap!r}, which {type(network).__name__} "
                "has not; use the network that was trained"
            ) from error
        parts = {"own": own, "size": nn.AdaptiveAvgPool2d((self.height, self.width))}
        parts["projector"] = bottleneck(self.inputs, self.hidden, self.outputs)
        head = nn.Linear(self.outputs, self.classes, self.bias).requires_grad_(False)
        network.set_submodule(self.tap, nn.Sequential(OrderedDict(parts)))
        network.set_submodule(self.classifier, head)
        vars(network)["taps"] = {k: v if k == self.name else self._moved(v) for k, v in published(network).items()}

    def _moved(self, path: str) -> str:
        """Return the path of a module that may have moved."""
        bare = path.removesuffix(INPUT)
        inside = bare == self.tap or bare.startswith(f"{self.tap}.")
        return f"{self.tap}.own{path[len(self.tap) :]}" if inside else path

    def text(self) -> str:
        """Return the values as JSON."""
        return json.dumps(asdict(self))


def written(text: str) -> Graft:
    """Return the graft that a file describes.

    Raises:
        ValueError: when it describes none.
    """
    found = json.loads(text)
    kinds = {"str": str, "int": int, "bool": bool}
    if not isinstance(found, dict) or any(type(found.get(f.name)) is not kinds[str(f.type)] for f in fields(Graft)):
        raise ValueError("what it says of a grafted classifier cannot be read")
    return Graft(**{f.name: found[f.name] for f in fields(Graft)})


def graft(network: nn.Module, spec: InputSpec, wish: Wish, teachers: Mapping[str, Teacher], images: Batch) -> Graft:
    """Graft the classifier of a teacher, with its weights, on a student in place; return what was done.

    Args:
        network: of the student.
        spec: what it wants its pixels to be.
        wish: of a loss.
        teachers: by name; ``wish.teacher_tap`` names one where there are several.
        images: any, to see that the student classifies as the teacher does.

    Raises:
        ValueError: when the classifier of one of them does not read the average of the map that is named.
    """
    teacher, tap = _owner(teachers, wish.teacher_tap)
    if teacher.network is None:
        raise ValueError("the teacher has no network whose classifier could be reused; choose one that has")
    told = teacher(images._replace(inputs=images.inputs.to(next(teacher.network.parameters()).device)))
    _, source = _classifier(teacher.network, wish.teacher_classifier, told, tap, "teacher")
    path = published(network).get(wish.student_tap, wish.student_tap)
    if path.endswith(INPUT):
        raise ValueError(f"student_tap {wish.student_tap!r} is the input of a module; name the module that gives it")
    with torch.no_grad():
        seen = Tapped(copy.deepcopy(network), spec, [wish.student_tap]).eval()(images.inputs)
    head, _ = _classifier(network, wish.student_classifier, seen, wish.student_tap, "student")
    mine, other = seen.features[wish.student_tap].shape[1:], told.features[tap].shape[1:]
    height, width = (min(pair) for pair in zip(mine[1:], other[1:], strict=True))
    hidden = max(other[0] // wish.factor, 1)
    fixed = (head, source.out_features, source.bias is not None)
    done = Graft(path, wish.student_tap, mine[0], other[0], hidden, height, width, *fixed)
    done.attach(network)
    # in the precision that the teacher computes in, which it may be in already
    weights = {f"{head}.{name}": value.to(teacher.dtype) for name, value in source.state_dict().items()}
    network.load_state_dict(weights, strict=False)
    return done


def _owner(teachers: Mapping[str, Teacher], tap: str) -> tuple[Teacher, str]:
    """Return the teacher that a tap belongs to, and its name there."""
    if len(teachers) == 1:
        return next(iter(teachers.values())), tap
    name, _, path = tap.partition("/")
    if name not in teachers:
        raise ValueError(
            f"teacher_tap {tap!r}: needs a teacher; choose one with teacher=..., of several name one first"
        )
    return teachers[name], path


def _classifier(
    network: nn.Module, path: str | None, said: Outputs, tap: str, side: str
) -> tuple[str, nn.Linear]:  # fmt: skip
    """Return the classifier of a network and its path.

    Raises:
        ValueError: when its logits are not what it makes of the average of the tapped map.
    """
    linear = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    found = path if path is not None else next(reversed(linear), "")
    if found not in linear:
        raise ValueError(f"{side}_classifier {found!r}: no linear layer of the {side}; it has {', '.join(linear)}")
    feature, head = said.features.get(tap), linear[found]
    if feature is not None and feature.ndim == 4 and feature.shape[1] == head.in_features:
        with torch.inference_mode():
            logits = head(feature.mean((2, 3)).to(head.weight.dtype)).float()
            if float((logits - said.logits).norm()) <= TOLERANCE * float(said.logits.norm()):
                return found, head
    shape = None if feature is None else tuple(feature.shape[1:])
    raise ValueError(
        f"the {side}'s classifier {found!r} of {head.in_features} inputs does not read the average of {side}_tap "
        f"{tap!r} of shape {shape}; name the map that it averages (final in CIFAR nets) or the {side}_classifier"
    )
