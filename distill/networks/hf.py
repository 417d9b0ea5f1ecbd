"""Any image classifier of transformers by hub name or local folder, as teacher or student."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedModel,
)
from transformers.utils import logging

from distill.networks import friendly, hub
from distill.outputs import InputSpec

HALF = (0.5, 0.5, 0.5)
"""Mean and std for a network of random weights and fixed size that says nothing of its pixels."""


class ImageClassifier(nn.Module):
    """A classifier of transformers that returns its logits alone.

    Args:
        model: what ``AutoModelForImageClassification`` makes.
        input_spec: mean, std and size of its pixels; None for those of the dataset.
        bgr: whether it wants blue first.
    """

    def __init__(self, model: PreTrainedModel, input_spec: InputSpec | None, bgr: bool) -> None:
        super().__init__()
        self.model = model
        self.input_spec = input_spec
        self.bgr = bgr
        self.taps = _taps(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        return self.model(pixel_values=x.flip(1) if self.bgr else x).logits


def image_classifier(name: str, num_classes: int, pretrained: bool, new_head: bool) -> ImageClassifier:
    """Return an image classifier of transformers, mapping images ``(N, C, H, W)`` to logits ``(N, K)``.

    Its ``input_spec`` is that of its image processor; images are resized to the size that the processor crops to,
    uncropped. Its ``taps`` are ``stage1`` ... (of more than six blocks those at each quarter of the depth) and
    ``pooled``, the classifier's input. No code of the hub is run.

    Args:
        name: local folder or hub name, with ``config.json``, ``preprocessor_config.json``, ``model.safetensors``.
        num_classes: number of classes K.
        pretrained: with its weights, else random ones in the shape of its config.
        new_head: allow a fresh classifier where the weights are for other classes.

    Raises:
        ValueError: when there is no such model, it is none that classifies images, or its weights are for others.
    """
    with files(name) as source:
        config = _config(name, source)
        processor = image_processor(name, source)
        if not pretrained:
            config.num_labels = num_classes
            return ImageClassifier(AutoModelForImageClassification.from_config(config), *pixels(config, processor))
        if processor is None:
            raise ValueError(
                f"name={name!r}: there is no preprocessor_config.json, so how its pixels are normalised is unknown; "
                "save its image processor there, or set pretrained=false"
            )
        model = _pretrained(name, config, num_classes, new_head, source)
    return ImageClassifier(model, *pixels(config, processor))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and giving advice."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def files(name: str) -> Iterator[dict[str, Any]]:
    """Give the arguments of every ``from_pretrained``; quiet, quick, and with one sentence where files are missing."""
    local = Path(name).is_dir()
    with nullcontext() if local else hub.cache_where_unreachable(), quiet():
        try:
            yield {"local_files_only": local, "trust_remote_code": False}
        except (OSError, SafetensorError) as error:
            problem = (
                "the folder lacks a config.json or model.safetensors that can be read; save a model there"
                if local
                else "its files cannot be had from the hub (unreachable, unknown there, or without model.safetensors); "
                "give the path of a local folder"
            )
            raise ValueError(f"name={name!r}: {problem}") from error


def _config(name: str, source: dict[str, Any]) -> Any:
    if source["local_files_only"] and not (Path(name) / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {name}")
    try:
        config = AutoConfig.from_pretrained(name, **source)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"name={name!r}: its config.json names no model that transformers has itself, and other code is never run; "
            "choose another"
        ) from error
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ValueError(
            f"name={name!r}: {config.model_type!r} does not classify images in transformers; choose one that does"
        )
    return config


def image_processor(name: str, source: dict[str, Any]) -> Any | None:
    """Return the image processor saved with a model; None where there is none."""
    try:
        return AutoImageProcessor.from_pretrained(name, **source)
    except OSError:
        return None


def _pretrained(name: str, config: Any, num_classes: int, new_head: bool, source: dict[str, Any]) -> PreTrainedModel:
    """Return the model with its weights, of which only the classifier may be fresh, and only if asked for."""
    if config.num_labels != num_classes:
        if not new_head:
            raise ValueError(
                f"num_classes={num_classes}: the pretrained weights of {name!r} are for {config.num_labels} classes; "
                "set new_head=true for a fresh classifier, or choose weights of this dataset"
            )
        config.num_labels = num_classes
    model, info = AutoModelForImageClassification.from_pretrained(
        name,
        config=config,
        use_safetensors=True,
        weights_only=True,
        dtype=torch.float32,
        ignore_mismatched_sizes=new_head,
        output_loading_info=True,
        **source,
    )
    missing = sorted(info["missing_keys"])
    if missing and not new_head:
        raise ValueError(
            f"name={name!r}: its weights have no {missing[0]}; set new_head=true if that is the classifier"
        )
    return model


def pixels(config: Any, processor: Any | None) -> tuple[InputSpec | None, bool]:
    """Return what the network wants its pixels to be, and whether blue comes first."""
    if processor is None:
        size = getattr(config, "image_size", None)
        return (None if size is None else InputSpec(HALF, HALF, _pair(size))), False
    normalised = getattr(processor, "do_normalize", False) and processor.image_mean is not None
    mean, std = (processor.image_mean, processor.image_std) if normalised else ((0.0,) * 3, (1.0,) * 3)
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    wanted = _pair(size) if getattr(processor, "do_resize", True) else None
    return InputSpec(tuple(mean), tuple(std), wanted), bool(getattr(processor, "do_flip_channel_order", False))


def _pair(size: Any) -> tuple[int, int]:
    """Return (height, width) of a size in any form that transformers knows: int, pair, sides, shortest edge."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, list | tuple):
        return size[0], size[1]
    height, width = getattr(size, "height", None), getattr(size, "width", None)
    return (height, width) if height and width else (size.shortest_edge, size.shortest_edge)


def _taps(network: ImageClassifier) -> dict[str, str]:
    """Return friendly names of the blocks in the outermost list of blocks, and of the classifier's input."""
    modules = dict(network.named_modules())
    lists = [path for path, module in modules.items() if isinstance(module, nn.ModuleList) and len(module) > 1]
    outermost = min(lists, key=lambda path: path.count("."), default=None)
    blocks = [] if outermost is None else [f"{outermost}.{i}" for i in range(len(modules[outermost]))]
    taps = friendly.stages(blocks)
    classes = network.model.config.num_labels
    heads = [p for p, m in modules.items() if isinstance(m, nn.Linear) and m.out_features == classes]
    return {**taps, "pooled": f"{heads[-1]}:in"} if heads else taps
