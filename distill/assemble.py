"""Assembles the parts of one run from its resolved config: data, student, teachers, objective, module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from distill import weights
from distill.aligning import require_taps
from distill.cache.build import make_cache
from distill.check import TEACHER_KEYS, TERM_KEYS
from distill.config import Config, ConfigError, build
from distill.data.base import ImageData
from distill.grafts import Graft, graft
from distill.losses.base import Loss
from distill.modules import graphs
from distill.modules.apart import refused
from distill.modules.base import DistillationModule
from distill.modules.cross_modal import MAP, CrossModal
from distill.modules.multi_teacher import MultiTeacher, join
from distill.modules.single_teacher import SingleTeacher
from distill.networks.aligned import Aligned
from distill.objective import Objective
from distill.outputs import Batch, InputSpec, Outputs, Specs, TrainingSet, Words
from distill.pointing import pointers
from distill.schedules.base import Schedule
from distill.taps import Tapped, introduce, published
from distill.teachers.base import Teacher


@dataclass
class Parts:
    """What a run is made of."""

    data: ImageData
    student: Tapped
    teachers: dict[str, Teacher]
    objective: Objective
    module: DistillationModule
    graft: Graft | None = None


def input_spec(network: torch.nn.Module | None, mean: Sequence[float], std: Sequence[float]) -> InputSpec:
    """Return the network's own input specification, or the dataset's mean and std where it has none."""
    own = getattr(network, "input_spec", None)
    return own if isinstance(own, InputSpec) else InputSpec(tuple(mean), tuple(std))


def make_data(cfg: Config) -> ImageData:
    """Return the data module of a config, with the seed of shuffling and augmentation."""
    seed = cfg["seed"] if cfg["data_seed"] is None else cfg["data_seed"]
    data: ImageData = build(cfg["dataset"], "dataset", partial=True)(seed=seed)
    return data


def make_objective(terms: Mapping[str, Config]) -> Objective:
    """Return the objective of the config group ``loss``."""
    losses: dict[str, Loss] = {}
    strengths: dict[str, float | Schedule] = {}
    for name, node in terms.items():
        losses[name] = build(node, f"loss.{name}", drop=TERM_KEYS)
        weight = node["weight"]
        strengths[name] = build(weight, f"loss.{name}.weight") if isinstance(weight, Mapping) else weight
    return Objective(losses, strengths)


def make_network(node: Config, key: str, checkpoint: str | None) -> torch.nn.Module:
    """Return a network with the weights of a checkpoint, or as it was built where there is none.

    Raises:
        ConfigError: when the network cannot be built or the checkpoint does not fit it.
    """
    network: torch.nn.Module = build(node, key)
    if checkpoint is not None:
        try:
            weights.load(network, checkpoint)
        except (ValueError, FileNotFoundError) as error:
            raise ConfigError([f"{key.removesuffix('.network')}.checkpoint: {error}"]) from error
    return network


def build_teacher(node: Config, key: str) -> Teacher:
    """Return the teacher of a config node: its network with the weights of ``checkpoint``, or the file itself.

    A ``checkpoint`` of ``train`` leaves the weights as built, for a dry run.

    Args:
        node: with a ``network``, or null for a teacher that has none and answers from the file.
        key: where the node stands in the config.
    """
    path = None if node["checkpoint"] in ("train", "built") else node["checkpoint"]
    given: dict[str, object] = {"checkpoint": path}
    if node["network"] is not None:
        with torch.random.fork_rng():
            torch.manual_seed(0)  # a teacher that comes untrained is the same one for every seed of the student
            given = {"network": make_network(node["network"], f"{key}.network", path)}
    try:
        teacher: Teacher = build(node, key, drop=TEACHER_KEYS, partial=True)(**given)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError([f"{key}: {error}"]) from error
    return teacher


def make_teacher(name: str, node: Config, data: ImageData, taps: list[str]) -> Teacher:
    """Return a teacher ready to answer; ``checkpoint: train`` leaves the weights as built, for a dry run."""
    key = f"teacher.{name}"
    teacher = build_teacher(node, key)
    try:
        teacher.read(input_spec(getattr(teacher, "network", None), data.mean, data.std), taps)
        teacher.meet(data)
    except ValueError as error:
        raise ConfigError([f"{key}: {error}"]) from error
    return teacher


def taps_by_teacher(taps: list[str], names: list[str]) -> dict[str, list[str]]:
    """Split ``teacher/tap`` names by teacher; with one teacher the plain name is enough."""
    if len(names) == 1:
        return {names[0]: taps}
    split: dict[str, list[str]] = {name: [] for name in names}
    for tap in taps:
        owner, _, path = tap.partition("/")
        if owner not in split or not path:
            raise ConfigError(
                [f"teacher_tap {tap!r}: with several teachers write teacher/tap; they are {', '.join(names)}"]
            )
        split[owner].append(path)
    return split


def specs_of(tapped: Tapped | Teacher, key: str, shape: tuple[int, int, int]) -> Specs:
    """Return the shapes of logits and taps for images ``(C, H, W)``.

    Raises:
        ConfigError: when the network cannot process such images.
    """
    try:
        return tapped.specs(shape)
    except (RuntimeError, ValueError, AssertionError) as error:  # timm asserts
        reason = " ".join(str(error).split())[:200]
        size = "x".join(map(str, shape))
        raise ConfigError(
            [f"{key}: cannot process images of {size} ({reason}); choose another network or dataset"]
        ) from error


def _teacher_specs(teachers: dict[str, Teacher], shape: tuple[int, int, int], classes: int) -> Specs:
    specs = {name: specs_of(teacher, f"teacher.{name}", shape) for name, teacher in teachers.items()}
    for name, spec in specs.items():
        if spec["logits"].shape != (classes,):
            raise ConfigError(
                [
                    f"teacher.{name}: gives {spec['logits'].shape[-1]} classes, the dataset has {classes}; "
                    "use a teacher of this dataset"
                ]
            )
    if len(specs) == 1:
        return next(iter(specs.values()))
    joined = {f"{name}/{tap}": s for name, spec in specs.items() for tap, s in spec.items() if tap != "logits"}
    return {"logits": next(iter(specs.values()))["logits"], **joined} if specs else {}


class Sharing(Protocol):
    """What trainings in one process have in common; see :mod:`distill.together`."""

    def data(self, cfg: Config) -> ImageData:
        """Return the data module of a config."""

    def teacher(self, cfg: Config, name: str, data: ImageData) -> Teacher:
        """Return a teacher of a config."""


def assemble(cfg: Config, sharing: Sharing | None = None, caches: bool = False) -> Parts:
    """Return the parts of one run, connectors built, random weights set by ``cfg["seed"]``.

    Args:
        cfg: resolved config of one training; each teacher's ``checkpoint`` is a path, ``built`` or ``train``.
        sharing: gives data and teachers where other trainings use them too.
        caches: put teachers behind the caches that the config asks for, which are made where there are none.

    Raises:
        ConfigError: one sentence for each mistake that shows when the parts meet.
    """
    torch.manual_seed(cfg["seed"])
    data = make_data(cfg) if sharing is None else sharing.data(cfg)
    network = make_network(cfg["student"], "student", None)
    objective = make_objective(cfg["loss"])
    names = list(cfg["teacher"])
    asked = taps_by_teacher(objective.teacher_taps, names) if names else {}
    teachers: dict[str, Teacher] = {}
    for name in names:
        if sharing is None:
            teachers[name] = make_teacher(name, cfg["teacher"][name], data, asked[name])
        else:
            teachers[name] = sharing.teacher(cfg, name, data)
    if objective.viewers and teachers:
        _refuse_views(cfg, objective.viewers[0], teachers)
    anchors = {name: found for name, teacher in teachers.items() if (found := teacher.anchors) is not None}
    try:
        introduce(network, lambda: Words(data.classes, data.texts, anchors))
    except ValueError as error:
        raise ConfigError([f"student: {error}"]) from error
    require_taps(network, objective, cfg["student"], anchors)
    grown = _grafted(network, objective, teachers, data)
    if caches and cfg["cache"] and teachers:
        policy = build(cfg["cache"], "cache")
        try:
            cached = {name: make_cache(policy, teacher, data, name) for name, teacher in teachers.items()}
        except ValueError as error:
            raise ConfigError([str(error) if str(error).startswith("cache") else f"cache: {error}"]) from error
        data.slots = next(iter(cached.values())).slots
        teachers = dict(cached)
    try:
        spec = input_spec(network, data.mean, data.std)
        judged = len(anchors) == len(teachers) == 1 and isinstance(network, Aligned)
        taps = [*objective.student_taps, *([MAP] if judged else []), *pointers(network)]
        student = Tapped(network, spec, taps, cfg["channels_last"])
    except ValueError as error:
        raise ConfigError([f"student: {error}"]) from error
    shape = (data.channels, *data.image_size)
    specs = specs_of(student, "student", shape)
    if specs["logits"].shape != (data.num_classes,):
        raise ConfigError(
            [
                f"student: gives {specs['logits'].shape[-1]} classes, the dataset has {data.num_classes}; "
                "set student.num_classes"
            ]
        )
    try:
        objective.prepare(specs, _teacher_specs(teachers, shape, data.num_classes))
        if any(type(loss).meet is not Loss.meet for loss in objective.modules() if isinstance(loss, Loss)):
            objective.meet(TrainingSet(data.splits["train"].target.cpu(), data.num_classes, anchors))
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    return Parts(data, student, teachers, objective, _module(cfg, data, student, teachers, objective), grown)


def _grafted(
    network: torch.nn.Module, objective: Objective, teachers: Mapping[str, Teacher], data: ImageData
) -> Graft | None:
    """Graft on the student's network what a term wants there."""
    wishes = objective.wishes
    if not wishes:
        return None
    if len(wishes) > 1:
        raise ConfigError([f"loss: {' and '.join(wishes)} all replace the student's classifier; take one of them"])
    name, wish = next(iter(wishes.items()))
    shape = (2, data.channels, *data.image_size)
    inputs = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    index = torch.arange(2)
    spec = input_spec(network, data.mean, data.std)
    try:
        return graft(network, spec, wish, teachers, Batch(inputs, index, index, index))
    except ValueError as error:
        raise ConfigError([f"loss.{name}: {error}"]) from error


def _refuse_views(cfg: Config, term: str, teachers: Mapping[str, Teacher]) -> None:
    """Refuse answers that were kept, where a term asks for those of images that were never shown."""
    blind = [name for name, teacher in teachers.items() if not teacher.sees_pixels]
    if cfg["cache"] or blind:
        fix = "set cache=off" if cfg["cache"] else f"teacher.{blind[0]} needs a network"
        raise ConfigError([f"loss.{term}: looks at further views of each image, of which no answers are kept; {fix}"])


def _module(
    cfg: Config, data: ImageData, student: Tapped, teachers: dict[str, Teacher], objective: Objective
) -> DistillationModule:
    optimizer = build(cfg["optimizer"], "optimizer", partial=True)
    reason = refused(optimizer, cfg["trainer"], cfg["compile"])
    if reason is None and cfg["graph"]:
        reason = graphs.refused(cfg, objective, optimizer)
    if reason is not None:
        raise ConfigError([reason])
    settings = {
        "student": student,
        "objective": objective,
        "optimizer": optimizer,
        "lr_scheduler": build(cfg["lr_scheduler"], "lr_scheduler", partial=True) if cfg["lr_scheduler"] else None,
        "eval_names": data.eval_names,
        "seed": cfg["seed"],
        "schedule_interval": cfg["schedule_interval"],
        "accumulate": accumulated(cfg),
        "clip": cfg["trainer"].get("gradient_clip_val"),
        "clip_algorithm": cfg["trainer"].get("gradient_clip_algorithm") or "norm",
        "control": cfg["control"],
        "term_gradients": cfg["term_gradients"],
        "graph": cfg["graph"],
    }
    if not teachers:
        if objective.reads_teacher:
            raise ConfigError(["loss: a term reads a teacher and there is none; choose one with teacher=..."])
        return DistillationModule(**settings)
    if len(teachers) == 1:
        name, teacher = next(iter(teachers.items()))
        if teacher.anchors is None or not isinstance(student.network, Aligned):
            return SingleTeacher(teacher, **settings)
        width, own = teacher.anchors.text.shape[1], student.network.width
        if width != own:
            raise ConfigError(
                [f"student.width={own}: teacher.{name} embeds in {width} values; set student.width={width}"]
            )
        return CrossModal(teacher, _map_of(teacher, objective.teacher_taps), cfg["map_batches"], **settings)
    relative = {name: float(cfg["teacher"][name]["weight"]) for name in teachers}
    return MultiTeacher(teachers, relative, cfg["teacher_average"], **settings)


def _map_of(teacher: Teacher, taps: Sequence[str]) -> str | None:
    """Return the map of a teacher that is judged: the one that a loss reads, else the first that it publishes."""
    own = {} if teacher.network is None else published(teacher.network)
    return next((tap for tap in [*taps, *own] if tap.startswith(MAP)), None)


def accumulated(cfg: Config) -> int:
    """Return how many batches make one optimizer step."""
    return int(cfg["trainer"].get("accumulate_grad_batches") or 1)


def answer(teachers: Mapping[str, Teacher], batch: Batch, cfg: Config) -> Outputs:
    """Return what at least one teacher says of a batch, several joined as in training."""
    outputs = {name: teacher(batch) for name, teacher in teachers.items()}
    if len(outputs) == 1:
        return next(iter(outputs.values()))
    return join(outputs, {n: float(cfg["teacher"][n]["weight"]) for n in outputs}, cfg["teacher_average"])
