"""The typed root of the configuration, composition, and the one place where a config becomes an object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf

from distill.places import CONF

GROUPS = (
    "teacher", "cache", "student", "loss", "scheduler", "dataset", "optimizer", "lr_scheduler", "trainer", "logger",
)  # fmt: skip
"""Groups that make up a run; recipe, pair, experiment and search are deltas on them."""

Config = dict[str, Any]


class ConfigError(Exception):
    """Mistakes in a configuration, one plain sentence each, found before any training."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Check(Enum):
    """What is checked before training."""

    full = "full"
    static = "static"
    only = "only"


class Interval(Enum):
    """How often schedules move."""

    epoch = "epoch"
    step = "step"


class Control(Enum):
    """What is taken away from the teacher, to see what of a gain is left."""

    none = "none"
    shuffled_teacher = "shuffled_teacher"
    uniform_teacher = "uniform_teacher"
    random_teacher = "random_teacher"


class Average(Enum):
    """What is averaged over several teachers."""

    logits = "logits"
    probabilities = "probabilities"


@dataclass
class Root:
    """Scalars of a run; closed: another key, or a value of another type, is refused."""

    seed: int = 0  # first seed
    seeds: int = 3  # number of seeds: seed, seed + 1, …
    data_seed: int | None = None  # order and augmentation of the data; null: the run's seed
    together: bool = False  # train all students in one process, on one data stream and one pass of the teacher
    alone: bool = True  # also train the student without a teacher, to say what teaching is worth
    out: str = "runs"  # where every run is kept, by fingerprint
    check: Check = Check.full  # static: no dry run; only: compose and check, train nothing
    rerun: bool = False  # train again what is already complete
    quiet: bool = False  # lines for a log instead of a progress bar
    compile: bool = False  # torch.compile the student
    graph: bool = False  # on a GPU: record a training step as a CUDA graph and replay it
    channels_last: bool = True  # memory layout that convolutions are faster with; results differ by rounding only
    ema_decay: float | None = None  # exponential moving average of the student's weights; null for none
    schedule_interval: Interval = Interval.epoch  # how often schedules move: epoch or step
    teacher_average: Average = Average.logits  # with several teachers
    control: Control = Control.none  # shuffled_teacher, uniform_teacher, random_teacher: told instead
    corruptions: bool = False  # also test on images with noise, blur, less contrast, more light, coarser pixels
    unseen_classes: list[int] | None = None  # also test, by their names alone, on these classes of the dataset
    term_gradients: bool = True  # log the norm of each term's gradient, on the first batch of an epoch
    map_batches: int = 4  # evaluation batches whose maps are judged, of an image-text teacher and an aligned student
    overlays: int = 0  # test images drawn before and after training, with where teacher and student look
    checkpoint_every: int | None = None  # steps between checkpoints inside an epoch; null: at the end of each epoch
    ckpt_path: str | None = None  # checkpoint to start from; null: the run's own last one, where it was interrupted
    tags: list[str] = field(default_factory=list)  # free words kept in the record and sent to the logger
    teacher: Any = field(default_factory=dict)
    cache: Any = field(default_factory=dict)
    student: Any = MISSING
    loss: Any = field(default_factory=dict)
    scheduler: Any = field(default_factory=dict)
    dataset: Any = MISSING
    optimizer: Any = MISSING
    lr_scheduler: Any = MISSING
    trainer: Any = MISSING
    logger: Any = field(default_factory=dict)
    trial: Any = None  # set by a search: the trial that a cell is of (storage, study, number); null: of none
    pair: Any = None  # what a published pair sets for each method, read by the loss configs


ConfigStore.instance().store(name="root", node=Root)

IRRELEVANT = {
    "pair", "seeds", "alone", "out", "check", "rerun", "quiet", "tags", "together", "logger", "scheduler",
    "checkpoint_every", "ckpt_path", "trial", "term_gradients", "map_batches", "overlays",
}  # fmt: skip
"""Root keys that do not change what one training computes; ``scheduler`` is interpolated into the terms by then."""


def plain(cfg: DictConfig) -> Config:
    """Return a composed config as a plain dict, interpolations kept."""
    container = OmegaConf.to_container(cfg, resolve=False, enum_to_str=True)
    if not isinstance(container, dict):
        raise TypeError("a config is a mapping")
    return {str(k): v for k, v in container.items()}


def compose(overrides: Sequence[str] = (), config_dir: str | Path | None = None, config_name: str = "train") -> Config:
    """Return the config of ``distill train`` with Hydra overrides applied, as a plain dict for :func:`distill.run`.

    Args:
        overrides: as on the command line, such as ``["student=resnet20", "loss=[ce,dkd]"]``.
        config_dir: folder with groups of your own, searched after the shipped ones.
        config_name: primary config.

    Raises:
        hydra.errors.ConfigCompositionException: when an override names what does not exist.
    """
    extra = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(hydra_compose(config_name, [*overrides, *extra]))


def resolved(cfg: Mapping[str, Any]) -> Config:
    """Return a config with every interpolation replaced by its value.

    Raises:
        omegaconf.errors.OmegaConfBaseException: when an interpolation points nowhere.
    """
    container = OmegaConf.to_container(OmegaConf.create(dict(cfg)), resolve=True)
    if not isinstance(container, dict):
        raise TypeError("a config is a mapping")
    return {str(k): v for k, v in container.items()}


def merged(cfg: Mapping[str, Any], delta: Mapping[str, Any]) -> Config:
    """Return ``cfg`` with the values of ``delta`` laid over it, key by key.

    A node that makes something else (another ``_target_``) takes the place of the one below, with its own arguments.
    """
    out = dict(cfg)
    for key, value in delta.items():
        below = out.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            other = "_target_" in value and value["_target_"] != below.get("_target_")
            out[key] = value if other else merged(below, value)
        else:
            out[key] = value
    return out


def build(node: Mapping[str, Any], key: str, drop: Sequence[str] = (), partial: bool = False) -> Any:
    """Make the object that a config node describes by ``_target_``; the only instantiate call of the project.

    Args:
        node: plain dict with ``_target_`` and its arguments.
        key: where the node stands in the config, for the message of an error.
        drop: keys of the node that are not arguments of the target.
        partial: return a callable that still takes the remaining arguments.

    Raises:
        ConfigError: when the target cannot be made from its arguments; carries the target's own sentence.
    """
    kept: Config = {k: v for k, v in node.items() if k not in drop}
    if partial:
        kept["_partial_"] = True
    try:
        return instantiate(kept, _convert_="all")
    except InstantiationException as error:
        cause: BaseException = error
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        raise ConfigError([f"{key}: {_sentence(cause)}"]) from error


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def fingerprint(value: object) -> str:
    """Return 10 hex digits that name a plain value; equal values have equal names on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
