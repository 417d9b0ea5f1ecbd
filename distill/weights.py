"""Reads weights from the files people have: safetensors, state dicts, public checkpoints; executes none of them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from distill.grafts import KEY, written

WRAPPERS = ("state_dict", "model", "net", "model_state_dict", "student")
PREFIXES = ("module.", "student.network.", "_orig_mod.")


def read(path: str | Path) -> Any:
    """Return what a checkpoint file holds, without running any code in it.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is truncated, is no checkpoint, or would need code to be executed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {str(path)!r} does not exist")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of a foreign pickle just before it refuses it
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        if "Unsupported" in reason or "weights_only" in reason.lower():
            reason = "it holds Python objects or no checkpoint at all, and only plain tensors are read"
        raise ValueError(f"checkpoint {str(path)!r} cannot be read: {reason}") from error


def state_dict(content: Any) -> dict[str, Tensor]:
    """Return the tensors by parameter name in the content of a checkpoint, unwrapped and without wrappers' prefixes.

    Raises:
        ValueError: when there are no tensors by name in it.
    """
    # a wrapper goes first: beside it there may be tensors that are no weights, such as the best accuracy so far
    while isinstance(content, Mapping):
        inner = next((content[k] for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise ValueError("it holds no tensors by parameter name")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if any(k.startswith("student.network.") for k in tensors):
        tensors = {k: v for k, v in tensors.items() if k.startswith("student.network.")}
    for prefix in PREFIXES:
        if tensors and all(k.startswith(prefix) for k in tensors):
            tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def grafted(path: Path, content: Any) -> str | None:
    """Return what a file says of a classifier that was grafted on the network whose weights it holds; None for none.

    Args:
        path: of the file.
        content: of the file, as :func:`read` returns it.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(KEY)
    own = content.get("distill") if isinstance(content, Mapping) else None
    text = own.get(KEY) if isinstance(own, Mapping) else None
    return text if isinstance(text, str) else None


def load(network: nn.Module, path: str | Path) -> None:
    """Load weights into a network, on which is grafted what was; every parameter must be there and fit.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it cannot be read or does not fit; says what is missing, unknown or of another shape.
    """
    try:
        content = read(path)
        text = grafted(Path(path), content)
        if text is not None:
            written(text).attach(network)
        found = state_dict(content)
    except ValueError as error:
        raise ValueError(str(error) if "checkpoint" in str(error) else f"checkpoint {str(path)!r}: {error}") from error
    wanted = network.state_dict()
    any_size = elastic(network)
    shapes = [k for k in wanted if k in found and wanted[k].shape != found[k].shape and k not in any_size]
    missing, unknown = [k for k in wanted if k not in found], [k for k in found if k not in wanted]
    if shapes or missing or unknown:
        details = [f"{k} is {tuple(found[k].shape)} there and {tuple(wanted[k].shape)} here" for k in shapes[:1]]
        details += [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
        details += [f"{len(unknown)} unknown, such as {unknown[0]}"] if unknown else []
        raise ValueError(
            f"checkpoint {str(path)!r} does not fit {type(network).__name__}: {'; '.join(details)}; "
            "use the network and class count that it was trained with"
        )
    network.load_state_dict(found)


def elastic(network: nn.Module) -> set[str]:
    """Return the names of buffers that take the size which they were saved with: a vocabulary, vectors of classes."""
    return {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        for name in getattr(module, "elastic", ())
    }
