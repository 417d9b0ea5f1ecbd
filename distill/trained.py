"""load(path): a trained network back from its run folder, checkpoint or weights file, ready to be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard, overload

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from distill.assemble import answer, input_spec, make_data, make_network, make_teacher, specs_of
from distill.config import Config, ConfigError, compose, resolved
from distill.data.base import ImageData
from distill.evaluate import agreement, measured, moved, predict, under_corruption
from distill.fit import STUDENT
from distill.networks.aligned import Aligned
from distill.open_vocabulary import TextTower, embedded, require_aligned, text_tower
from distill.outputs import Words
from distill.records import RESULT, Record, is_complete, read_json
from distill.signatures import near
from distill.taps import Tapped, introduce


@dataclass
class Loaded:
    """A trained network with the data it is asked about.

    Attributes:
        config: resolved config of its training, changed as :func:`load` was told.
        record: content of its ``result.json``; None for a weights file that belongs to no run.
        weights: file that the weights came from.
        student: the network in eval mode, normalisation in front; takes pixels.
        data: data module of ``config["dataset"]``.
    """

    config: Config
    record: Record | None
    weights: Path
    student: Tapped
    data: ImageData
    _vectors: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    @overload
    def predict(self, split: str = "test") -> tuple[Tensor, Tensor]: ...

    @overload
    def predict(self, split: Tensor, labels: Sequence[str] | None = None) -> Tensor: ...

    def predict(
        self, split: str | Tensor = "test", labels: Sequence[str] | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits ``(N, K)``, of a whole split not augmented with its targets ``(N,)``, or of images alone.

        Args:
            split: train, val or test; or images ``(N, C, H, W)``, uint8 pixels or floats in [0, 1].
            labels: names of other classes than those of the training, for images and a student that an image-text
                teacher taught; its text tower, which the record names, is asked for their vectors.

        Raises:
            ValueError: when there is no such split.
            ConfigError: when the student has no vectors that names could be compared with, or the teacher is gone.
        """
        if isinstance(split, str):
            return predict(self.student, self.data.loader(split), torch.device("cpu"))
        if labels is None:
            with torch.inference_mode():
                return self.student(split).logits.float()
        mine = embedded(self.student, [split])
        return self.text_tower.scale * mine @ self.text_tower.encode(labels).T

    def retrieve(self, text: str, k: int = 5, split: str = "test") -> tuple[Tensor, Tensor]:
        """Return the k images of a split that go best with a text: positions ``(k,)`` and cosines ``(k,)``, best first.

        Raises:
            ValueError: when there is no such split.
            ConfigError: as :meth:`predict` does.
        """
        require_aligned(self.student.network)
        if split not in self._vectors:
            self._vectors[split] = embedded(self.student, self.data.loader(split))
        found = self._vectors[split] @ self.text_tower.read([text])[0]
        best = found.topk(min(k, len(found)))
        return best.indices, best.values

    @cached_property
    def text_tower(self) -> TextTower:
        """What the teacher of the training makes of words."""
        require_aligned(self.student.network)
        return text_tower(self.config, Words(self.data.classes, self.data.texts))

    def evaluate(self, split: str = "test") -> dict[str, Any]:
        """Return accuracy, top5, calibration, likelihood of a split, and agreement with its teachers if it had any.

        Raises:
            ValueError: when there is no such split.
        """
        logits, target = self.predict(split)
        found = measured(self.data, split, logits, target)
        teachers = {n: t for n, t in self.config["teacher"].items() if _answers(t)}
        if teachers and len(teachers) == len(self.config["teacher"]):
            frozen = {n: make_teacher(n, node, self.data, []) for n, node in teachers.items()}
            batches = moved(self.data.loader(split), torch.device("cpu"))
            found["agreement"] = agreement(logits, (answer(frozen, batch, self.config) for batch in batches))
        return found

    def corrupted(self, split: str = "test", level: int = 3) -> dict[str, float]:
        """Return the accuracy in percent of a split under each kind of corruption, and their ``mean``.

        Args:
            split: train, val or test.
            level: how strong, 1 to 5.

        Raises:
            ValueError: when there is no such split or level.
        """
        loader, notes = self.data.loader(split), self.data.splits[split].notes
        return under_corruption(self.student, loader, torch.device("cpu"), level, notes)


def _answers(teacher: Config) -> bool:
    """Whether a teacher can still be asked: it has a network, whose weights are there."""
    checkpoint = teacher["checkpoint"]
    return teacher["network"] is not None and (checkpoint == "built" or Path(checkpoint).is_file())


def load(path: str | Path, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Loaded:
    """Return a trained network and its data.

    Args:
        path: a run folder, a checkpoint of distill, or a file of weights.
        overrides: of the config of its training: ``dataset.root=...``, ``dataset=cifar10``. For weights that belong to
            no run they are overrides of the default config, and name at least ``student``. Other classes are asked of
            an anchored student by their names, for which the text tower of its teacher has to be there.
        config_dir: folder with config groups of your own.

    Raises:
        ConfigError: when there is nothing to load, an override names no key, or weights and config do not fit.
    """
    path = Path(path)
    weights = path / STUDENT if path.is_dir() else path
    record = _record(path)
    if path.is_dir() and not (record and is_complete(record)):
        state = f"its training is {record['status']}" if record else f"it has no {RESULT}"
        raise ConfigError([f"{path}: is no folder of a finished run, {state}; give a run folder, or a file of weights"])
    base = record["config"] if record else _own_config(weights)
    if base is None:
        config = resolved({**compose(overrides, config_dir), "teacher": {}})
    else:
        config = _changed(base, overrides, config_dir)
    data = make_data(config)
    with torch.random.fork_rng():
        network = make_network(config["student"], "student", str(weights))
        introduce(network, lambda: Words(data.classes, data.texts))
        if record and _names_differ(network, record, data):
            tower = text_tower(config, Words(data.classes, data.texts))
            network.recognise(tower.encode(data.classes), data.classes, tower.scale)
    student = Tapped(network, input_spec(network, data.mean, data.std)).eval()
    classes = specs_of(student, str(path), (data.channels, *data.image_size))["logits"].shape[-1]
    if classes != data.num_classes:
        raise ConfigError(
            [f"{path}: gives {classes} classes, dataset.num_classes={data.num_classes}; choose data of those classes"]
        )
    return Loaded(config, record, weights, student, data)


def _names_differ(network: nn.Module, record: Record, data: ImageData) -> TypeGuard[Aligned]:
    """Whether a student that knows its classes by name only is asked about others."""
    return isinstance(network, Aligned) and network.anchored and list(data.classes) != record.get("classes")


def _record(path: Path) -> Record | None:
    """Return the record of the run that a folder or file belongs to."""
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    found = (read_json(folder / RESULT) for folder in folders)
    return next((record for record in found if record is not None and "config" in record), None)


def _own_config(weights: Path) -> Config | None:
    """Return the config inside a checkpoint of distill."""
    from distill.weights import read

    try:
        content = read(weights)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError([str(error)]) from error
    own = content.get("distill") if isinstance(content, dict) else None
    return own["config"] if isinstance(own, dict) and "config" in own else None


def _changed(config: Config, overrides: Sequence[str], config_dir: str | Path | None) -> Config:
    """Return a resolved config with overrides; a dataset that is chosen anew replaces the old one."""
    group = [o for o in overrides if o.startswith("dataset=")]
    if group:
        below = [o for o in overrides if o.startswith(("dataset.", "+dataset.", "dataset/"))]
        chosen = resolved(compose([*group, *below, "teacher=[]"], config_dir))["dataset"]
        if chosen["channels"] == config["dataset"]["channels"]:  # the network goes on seeing pixels as in training
            typed = [o.partition("=")[0] for o in below]
            chosen |= {k: config["dataset"][k] for k in ("mean", "std") if f"dataset.{k}" not in typed}
        config = {**config, "dataset": chosen}
        overrides = [o for o in overrides if o not in (*group, *below)]
    known = _keys(config)
    for override in overrides:
        key, _, _ = override.partition("=")
        if key not in known:
            raise ConfigError([f"{override}: the config of this run has no such key; {near(key, known)}"])
    changed = OmegaConf.to_container(OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides))), resolve=True)
    return {str(key): value for key, value in dict(changed).items()}  # type: ignore[arg-type]


def _keys(config: Config, prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += _keys(value, f"{prefix}{key}.")
    return found
