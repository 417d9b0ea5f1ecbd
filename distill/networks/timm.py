"""Any model of timm by its name, as teacher or student, with its own normalisation and friendly taps."""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import load_model_config_from_hf
from torch import nn

from distill.networks import friendly, hub
from distill.outputs import InputSpec

STEM = re.compile(r"\b(stem|conv1|bn1|act1|norm0)\b")
"""Modules before the first stage, as timm calls them."""


def timm_model(
    name: str,
    num_classes: int,
    channels: int,
    pretrained: bool,
    image_size: list[int] | None,
    drop_path: float,
    new_head: bool,
) -> nn.Module:
    """Return a model of timm, mapping images ``(N, C, H, W)`` to logits ``(N, K)``.

    Its ``input_spec`` is that of its weights where it is pretrained, and of its fixed input size where it has one
    that is not ``image_size``; else it has none. Its ``taps`` are ``stem``, ``stage1`` ... in the order of its
    ``feature_info`` (for a plain transformer: the blocks at each quarter of its depth) and ``pooled``, the
    classifier's input; a model whose maps have the channels last publishes ``pooled`` only.

    Args:
        name: as in ``timm.list_models()``, ``.tag`` of a set of weights included; or ``local-dir:FOLDER`` or
            ``hf-hub:OWNER/NAME`` with timm's ``config.json`` and weights.
        num_classes: number of classes K.
        channels: channels of the images; a pretrained first layer is summed or repeated to fit.
        pretrained: with timm's weights, else random ones.
        image_size: height and width of the images. A random transformer is made for them where it can be; a
            pretrained one takes the size of its weights; None: whatever comes, or the model's own size.
        drop_path: stochastic depth, the rate of the last block (Huang et al., 2016).
        new_head: allow a fresh classifier where the weights are for other classes.

    Raises:
        ValueError: when there is no such model, no such weights, or the model cannot do what an argument asks.
    """
    cfg = _pretrained_cfg(name, pretrained)
    arguments = {"num_classes": num_classes, "in_chans": channels, "drop_path_rate": drop_path}
    if pretrained:
        _check_weights(name, cfg, num_classes, new_head)
        network, size = _pretrained(name, arguments), _size(cfg, image_size)
    else:
        network, size = _random(name, arguments, cfg, image_size)
    spec = _input_spec(cfg, channels, size) if pretrained or size is not None else None
    for attribute, value in (("taps", _taps(network)), ("input_spec", spec)):
        setattr(network, attribute, value)
    return network


def _pretrained_cfg(name: str, pretrained: bool) -> dict[str, Any]:
    """Return what timm knows of a model's weights: mean, std, input size, classes."""
    source, _, place = name.partition(":")
    if source == "local-dir":
        if not (Path(place) / "config.json").is_file():
            raise ValueError(f"name={name!r}: the folder has no config.json; save a model there with timm.save_for_hf")
        saved = json.loads((Path(place) / "config.json").read_text())
        cfg = saved.get("pretrained_cfg", saved)
        return {**cfg, "num_classes": saved.get("num_classes", cfg.get("num_classes"))}
    if source == "hf-hub":
        with _hub_errors(name), hub.cache_where_unreachable():
            return dict(load_model_config_from_hf(place)[0])
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), 5, 0.4)
        raise ValueError(
            f"name={name!r}: timm has no such model; "
            + (f"near: {', '.join(near)}" if near else "timm.list_models() lists them")
        )
    tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
    if pretrained and "." in name and name not in tags:
        raise ValueError(f"name={name!r}: timm has no such weights; choose one of {', '.join(tags) or 'none'}")
    cfg = timm.get_pretrained_cfg(name if name in tags else name.partition(".")[0])
    return cfg.to_dict() if cfg is not None else {}


def _check_weights(name: str, cfg: Mapping[str, Any], num_classes: int, new_head: bool) -> None:
    if ":" not in name and not timm.is_model_pretrained(name.partition(".")[0]):
        raise ValueError(f"pretrained=true: timm has no weights of {name!r}; set pretrained=false")
    own = cfg.get("num_classes")
    if own != num_classes and not new_head:
        raise ValueError(
            f"num_classes={num_classes}: the pretrained weights of {name!r} are for {own} classes; "
            "set new_head=true for a fresh classifier, or choose weights of this dataset"
        )


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn what goes wrong between here and the weights into one sentence."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"name={name!r}: its files cannot be had from the hub (unreachable, or unknown there); "
            "give a local folder as name=local-dir:FOLDER, or set pretrained=false for random weights"
        ) from error


def _create(name: str, arguments: Mapping[str, Any], pretrained: bool = False) -> nn.Module:
    """Return a model of timm; one without stochastic depth is not told of a rate of 0."""
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except TypeError as error:
        if "'drop_path_rate'" not in str(error) or "drop_path_rate" not in arguments:
            raise
        if arguments["drop_path_rate"]:
            raise ValueError(
                f"drop_path={arguments['drop_path_rate']:g}: {name!r} has no stochastic depth; set it to 0"
            ) from error
        return _create(name, {k: v for k, v in arguments.items() if k != "drop_path_rate"}, pretrained)


def _pretrained(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    access = nullcontext() if name.startswith("local-dir:") else hub.cache_where_unreachable()
    with _hub_errors(name), access:
        return _create(name, arguments, pretrained=True)


def _size(cfg: Mapping[str, Any], image_size: list[int] | None) -> tuple[int, int] | None:
    """Return the size that images are resized to, or None where the model takes them as they are."""
    if not cfg.get("fixed_input_size"):
        return None if image_size is None else (image_size[0], image_size[1])
    height, width = cfg["input_size"][-2:]
    return height, width


def _random(
    name: str, arguments: dict[str, Any], cfg: Mapping[str, Any], image_size: list[int] | None
) -> tuple[nn.Module, tuple[int, int] | None]:
    """Return a model of random weights, made for the images where it can be, and the size that it needs else."""
    if not cfg.get("fixed_input_size"):
        return _create(name, arguments), None
    if image_size is not None:
        try:
            network = _create(name, {**arguments, "img_size": tuple(image_size)})
            _try(network, (arguments["in_chans"], *image_size))
            return network, None
        except (TypeError, AssertionError, RuntimeError, ZeroDivisionError, IndexError):
            logging.getLogger(__name__).debug("%s cannot be made for images of %s", name, image_size)
    return _create(name, arguments), _size(cfg, image_size)


@torch.no_grad()
def _try(network: nn.Module, shape: tuple[int, ...]) -> None:
    network.eval()(torch.zeros(1, *shape))
    network.train()


def _input_spec(cfg: Mapping[str, Any], channels: int, size: tuple[int, int] | None) -> InputSpec:
    mean, std = tuple(cfg["mean"]), tuple(cfg["std"])
    if len(mean) != channels:
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    return InputSpec(mean, std, size)


def _taps(network: Any) -> dict[str, str]:
    """Return friendly names of the modules that timm lists as features, and of the classifier's input."""
    info = getattr(network, "feature_info", None) or []
    modules = dict(network.named_modules())
    paths = [entry["module"] for entry in getattr(info, "info", info) if entry.get("module")]
    paths = [path for path in paths if path in modules]
    if getattr(network, "output_fmt", "NCHW") != "NCHW":  # losses would take width for channels
        paths = []
    taps = {}
    if paths and STEM.search(paths[0]):
        taps["stem"] = paths.pop(0)
    taps |= friendly.stages(paths)
    heads = network.get_classifier()
    head = heads[0] if isinstance(heads, tuple | list) else heads
    if isinstance(head, nn.Linear):
        taps["pooled"] = next(path for path, module in modules.items() if module is head) + ":in"
    return taps
