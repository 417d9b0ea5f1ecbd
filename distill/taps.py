"""Reads intermediate features of a network by module path or by the friendly names that the network publishes."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from distill.outputs import InputSpec, Outputs, Spec, Words

INPUT = ":in"
SCORED = "@"
"""In ``map@classifier``: the class scores that a linear classifier gives at every position of a map."""


def published(network: nn.Module) -> dict[str, str]:
    """Return the friendly tap names of a network and the module path that each stands for."""
    return dict(getattr(network, "taps", {}))


def source(network: nn.Module, name: str) -> str:
    """Return the module path, perhaps with ``:in``, that a tap reads; what a classifier then makes of it left out."""
    path = name.partition(SCORED)[0]
    return published(network).get(path, path)


def classifier(network: nn.Module, name: str) -> nn.Linear | None:
    """Return the linear layer that a tap ``map@classifier`` names, None for any other tap.

    Raises:
        ValueError: when there is no such module, or it is not linear; lists those that are.
    """
    path = name.partition(SCORED)[2]
    if not path:
        return None
    linear = {p: module for p, module in network.named_modules() if isinstance(module, nn.Linear)}
    if path not in linear:
        raise ValueError(
            f"tap {name!r}: {type(network).__name__} has no linear layer {path!r}; it has {', '.join(linear) or 'none'}"
        )
    return linear[path]


def scored(value: Tensor, linear: nn.Linear) -> Tensor:
    """Return class scores at every position; their mean over positions is what a classifier says of the mean.

    Args:
        value: maps ``(N, C, H, W)``, which give ``(N, K, H, W)``, or tokens ``(N, L, C)``, which give ``(N, L, K)``.
        linear: from C values to K classes.
    """
    if value.dim() < 4:
        return F.linear(value, linear.weight, linear.bias)
    return F.linear(value.movedim(1, -1), linear.weight, linear.bias).movedim(-1, 1)


def introduce(network: nn.Module, words: Callable[[], Words]) -> None:
    """Tell a network that has a ``meet`` the classes and the texts of a dataset, which are only then looked up.

    Raises:
        ValueError: when it cannot read them.
    """
    meet = getattr(network, "meet", None)
    if meet is not None:
        meet(words())


def resolve(network: nn.Module, name: str) -> tuple[nn.Module, bool]:
    """Return the module that a tap reads, and whether it reads the module's input (suffix ``:in``) or its output.

    Raises:
        ValueError: when the network has no such tap; lists the nearest names.
    """
    path = source(network, name)
    wants_input = path.endswith(INPUT)
    path = path.removesuffix(INPUT)
    modules = dict(network.named_modules())
    if path and path in modules:
        return modules[path], wants_input
    known = [*published(network), *(m for m in modules if m)]
    near = difflib.get_close_matches(name, known, 3, 0.4) or list(published(network)) or known[:5]
    raise ValueError(f"no tap {name!r} in {type(network).__name__}; nearest: {', '.join(near)}")


def first_tensor(value: object) -> Tensor | None:
    """Return the tensor in what a module returned: itself, or the first of a tuple, list or mapping."""
    while not isinstance(value, Tensor):
        if isinstance(value, dict):
            value = tuple(value.values())
        if not isinstance(value, tuple | list) or not value:
            return None
        value = value[0]
    return value


def spec_of(network: nn.Module, shape: tuple[int, ...]) -> Spec:
    """Return a shape with the grid of its tokens, where the network has a patch embedding that says it (timm's)."""
    grid = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    if len(shape) != 2 or not isinstance(grid, tuple):
        return Spec(shape)
    height, width = grid
    fits = shape[0] - height * width in (0, getattr(network, "num_prefix_tokens", 0))
    return Spec(shape, (height, width)) if fits else Spec(shape)


class Tapped(nn.Module):
    """A network that takes pixels and returns :class:`Outputs`: normalisation in front, taps inside.

    Args:
        network: maps normalised images ``(N, C, H, W)`` to logits ``(N, K)``; rows of texts ``(N,)`` are the second
            argument of one whose ``reads_text`` is true.
        input_spec: mean, std and size of the network's input; other sizes are resized, antialiased.
        taps: names of the features to return, friendly or module paths; ``path:in`` reads a module's input, and
            ``map@classifier`` (``pool:in@fc``) gives the class scores of a linear layer at every position of a map.
        channels_last: keep images, feature maps and 4-D weights with the channels innermost, which convolutions are
            faster with; the results differ by rounding only.

    Raises:
        ValueError: when a tap does not exist.
    """

    scale: Tensor
    byte_scale: Tensor
    shift: Tensor

    def __init__(
        self, network: nn.Module, input_spec: InputSpec, taps: Iterable[str] = (), channels_last: bool = False
    ) -> None:
        super().__init__()
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=torch.channels_last) if channels_last else network
        self.reads_text = bool(getattr(network, "reads_text", False))
        self.size, self.mode = input_spec.size, input_spec.mode
        mean, std = (torch.tensor(v, dtype=torch.float32).view(-1, 1, 1) for v in (input_spec.mean, input_spec.std))
        self.register_buffer("scale", 1 / std, persistent=False)
        self.register_buffer("byte_scale", 1 / std / 255, persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)
        self.taps = tuple(dict.fromkeys(taps))
        self._features: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._handles: list[RemovableHandle] = []
        for name in self.taps:
            self._attach(name)

    def _attach(self, name: str) -> None:
        module, wants_input = resolve(self.network, name)
        linear = classifier(self.network, name)

        def keep(_: nn.Module, args: tuple, output: object = None) -> None:
            value = first_tensor(args if wants_input else output)
            if value is None:
                raise ValueError(f"tap {name!r} of {type(self.network).__name__} is not a tensor")
            if linear is not None:
                value = scored(value, linear)
            self._features[name] = value
            self._versions[name] = 0 if value.is_inference() else value._version

        hook = module.register_forward_pre_hook if wants_input else module.register_forward_hook
        self._handles.append(hook(keep))

    def release(self) -> None:
        """Stop reading features of the network, which others may go on to read."""
        for handle in self._handles:
            handle.remove()
        self._features = {}

    def normalize(self, images: Tensor) -> Tensor:
        """Return pixels ``(N, C, H, W)``, uint8 or float in [0, 1], as the network wants them."""
        scale = self.byte_scale if images.dtype == torch.uint8 else self.scale
        x = torch.addcmul(self.shift, images.to(scale.dtype, memory_format=self.layout), scale)
        if self.size is not None and tuple(x.shape[-2:]) != self.size:
            x = F.interpolate(x, self.size, mode=self.mode, antialias=True)
        return x

    def forward(self, images: Tensor, text: Tensor | None = None) -> Outputs:
        """Return logits and tapped features of a batch of pixels.

        Args:
            images: pixels ``(N, C, H, W)``.
            text: rows of the texts that go with them ``(N,)``, for a network that reads (``reads_text``) and has met
                them; the first text for every image where none are given.
        """
        self._features = {}
        pixels = self.normalize(images)
        if not self.reads_text:
            return Outputs(self.network(pixels), self._features)
        rows = torch.zeros(len(images), dtype=torch.int64, device=pixels.device) if text is None else text
        return Outputs(self.network(pixels, rows), self._features)

    @torch.no_grad()
    def specs(self, shape: tuple[int, int, int]) -> dict[str, Spec]:
        """Return the shapes of logits and taps for images ``(C, H, W)``, by one forward pass in eval mode.

        Raises:
            ValueError: when a tapped tensor is overwritten in place by a later layer, or was never computed.
        """
        training = self.training
        self.eval()
        outputs = self(torch.zeros(2, *shape, dtype=torch.uint8, device=self.scale.device))
        self.train(training)
        missing = [name for name in self.taps if name not in outputs.features]
        if missing:
            raise ValueError(f"tap {missing[0]!r} of {type(self.network).__name__} is never reached by a forward pass")
        for name, value in outputs.features.items():
            if value._version != self._versions[name]:
                raise ValueError(
                    f"tap {name!r} of {type(self.network).__name__} is overwritten in place; tap the next layer instead"
                )
        named = {"logits": outputs.logits, **outputs.features}
        return {name: spec_of(self.network, tuple(value.shape[1:])) for name, value in named.items()}


def tap_shapes(network: nn.Module, input_spec: InputSpec, shape: tuple[int, int, int]) -> dict[str, tuple[str, tuple]]:
    """Return ``{tap name: (module path, shape without batch)}``: published taps first, then every other module."""
    named = published(network)
    paths = {p.removesuffix(INPUT) for p in named.values()}
    rest = {
        m: m for m, module in network.named_modules() if m and m not in paths and not isinstance(module, nn.Identity)
    }
    found: dict[str, tuple[str, tuple]] = {}
    reached: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, path in {**named, **rest}.items():
        module, wants_input = resolve(network, path)

        def keep(_: nn.Module, args: tuple, output: object = None, name: str = name, is_in: bool = wants_input) -> None:
            value = first_tensor(args if is_in else output)
            if value is not None:
                reached[name] = tuple(value.shape[1:])

        handles.append(module.register_forward_pre_hook(keep) if wants_input else module.register_forward_hook(keep))
    Tapped(network, input_spec).specs(shape)
    for handle in handles:
        handle.remove()
    for name, path in {**named, **rest}.items():
        if name in reached:
            found[name] = (path, reached[name])
    return found
