"""VQA: answers questions about images by cross-attention from the words of a question to the cells of an image.

What attends where is published as taps, so that one network can be taught where another looks.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from distill.networks.towers import LOWEST, MapOf, PlainCNN, States, TextTower
from distill.outputs import Words


class Cells(nn.Module):
    """Cells of a map in the joint space, normalised; they know where they are (CoordConv, Liu et al., 2018).

    What all images have in common is taken off by the normalisation; it would drown what one image has of its own as
    long as attention is even, and where to look would be learned late.

    Args:
        channels: of the map C.
        width: of the joint space D.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.place = Coordinates()
        self.project = nn.Conv2d(channels + 2, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        """Return cells ``(N, h w, D)`` of maps ``(N, C, h, w)``."""
        return self.norm(self.project(self.place(maps))).flatten(2).mT


class Coordinates(nn.Module):
    """Adds row and column of each cell as two channels."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps ``(N, C + 2, h, w)``: row and column of the cells' centres from -1 to 1 are the last two."""
        height, width = maps.shape[-2:]
        down, right = ((2 * torch.arange(n, device=maps.device) + 1) / n - 1 for n in (height, width))
        both = torch.stack([down[:, None].expand(height, width), right[None].expand(height, width)]).to(maps.dtype)
        return torch.cat([maps, both.expand(len(maps), -1, -1, -1)], 1)


class CrossAttention(nn.Module):
    """Multi-head attention from normalised words to cells; what is seen is added to the words.

    Args:
        width: of words and cells D.
        heads: a divisor of the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, words: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Return the words ``(N, L, D)`` after they looked, and the scores ``(N, heads, L, C)`` before softmax.

        Args:
            words: ``(N, L, D)``.
            cells: ``(N, C, D)``.
        """
        query, key, value = (
            self._split(self.query(self.norm(words))),
            self._split(self.key(cells)),
            self._split(self.value(cells)),
        )
        scores = query @ key.mT * query.shape[-1] ** -0.5
        seen = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
        return words + self.out(seen), scores


class VQA(nn.Module):
    """Image tower, text tower, cross-attention, answer classifier; reads the questions that it met by their rows.

    Each word attends to the cells. The words, and what they saw, are averaged by weights that the words are given
    themselves, and the classifier reads the two averages. ``attention`` is averaged by the same weights: where the
    question as a whole looks.

    Taps: ``map`` of the image tower; ``attention`` ``(heads, h, w)`` of the question, with sum 1 in each head, which
    is its ``pointer`` too; ``attention_tokens`` ``(heads, L, h, w)`` of each word, which sums to 1 over the cells;
    ``attention_i2t`` ``(heads, h, w, L)`` of each cell: the same scores normalised over the words instead (as in
    GLIP, Li et al., 2022), which no answer depends on; ``words`` ``(L,)``: which word each token is in, -1 for none;
    ``fused`` ``(2 D,)``, what the classifier reads; ``pooled``, the input of its last layer. All are of the last block.

    Args:
        image: maps images to maps, and has a ``width``: their channels.
        text: maps rows to states.
        width: of the joint space D.
        heads: attention heads, a divisor of the width.
        blocks: cross-attention blocks.
        hidden: width of the hidden layer of the classifier.
        num_classes: number of answers K.

    Raises:
        ValueError: when the heads do not divide the width, or there is no block.
    """

    attention: nn.Identity
    attention_tokens: nn.Identity
    attention_i2t: nn.Identity
    words: nn.Identity
    fused: nn.Identity

    reads_text: ClassVar[bool] = True
    taps: ClassVar[dict[str, str]] = {
        "map": "image", "attention": "attention", "pointer": "attention", "attention_tokens": "attention_tokens",
        "attention_i2t": "attention_i2t", "words": "words", "fused": "fused", "pooled": "classifier.2:in",
    }  # fmt: skip

    def __init__(
        self, image: MapOf | PlainCNN, text: TextTower, width: int, heads: int, blocks: int, hidden: int,
        num_classes: int,
    ) -> None:  # fmt: skip
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads}: must divide width={width}")
        if blocks < 1:
            raise ValueError(f"blocks={blocks}: at least one has to look at the image")
        self.image, self.text = image, text
        none = torch.zeros(1, 1, dtype=torch.int64)
        # one empty question, so that shapes can be looked at before it meets any
        text.reader.ids, text.reader.mask, text.reader.words = none, none > 0, none - 1
        self.cells = Cells(image.width, width)
        self.states = nn.Linear(text.width, width)
        self.weights = nn.Linear(width, 1, bias=False)
        self.blocks = nn.ModuleList(CrossAttention(width, heads) for _ in range(blocks))
        self.classifier = nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
        for name in ("attention", "attention_tokens", "attention_i2t", "words", "fused"):
            setattr(self, name, nn.Identity())

    def meet(self, words: Words) -> None:
        """Tokenise the questions of a dataset.

        Raises:
            ValueError: when it has none, or they are too long or of too many words.
        """
        self.text.reader.read(words.texts)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return answer logits ``(N, K)``.

        Args:
            x: images ``(N, C, H, W)``.
            rows: of their questions ``(N,)``.
        """
        maps = self.image(x)
        cells = self.cells(maps)
        asked: States = self.text(rows)
        self.words(asked.words)
        before = words = self.states(asked.values)
        share = self.weights(words)[..., 0].masked_fill(~asked.mask, LOWEST).softmax(1)[:, :, None]
        for block in self.blocks:
            words, scores = block(words, cells)
        self._publish(scores, share, asked.mask, (maps.shape[-2], maps.shape[-1]))
        fused = self.fused(torch.cat([(share * before).sum(1), (share * (words - before)).sum(1)], 1))
        return self.classifier(fused)

    def _publish(self, scores: Tensor, share: Tensor, mask: Tensor, grid: tuple[int, int]) -> None:
        """Pass attention through the modules that taps read.

        Args:
            scores: before softmax ``(N, heads, L, C)``.
            share: weight of each word ``(N, L, 1)``.
            mask: true at tokens of the question ``(N, L)``.
            grid: height and width of the cells.
        """
        by_word = scores.softmax(-1)
        self.attention((share[:, None] * by_word).sum(2).unflatten(-1, grid))
        self.attention_tokens(by_word.unflatten(-1, grid))
        self.attention_i2t(scores.mT.masked_fill(~mask[:, None, None], LOWEST).softmax(-1).unflatten(2, grid))
