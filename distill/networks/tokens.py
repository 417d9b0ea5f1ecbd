"""Tokens: the texts of a dataset as the numbers that a network reads, by words of its own or a tokenizer's pieces."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

PAD, UNKNOWN = 0, 1
"""Rows of a word embedding that are no words."""
WORD = re.compile(r"\w+|[^\w\s]")
"""A word: letters and digits in a row, or one other sign."""


class Tokens(NamedTuple):
    """Texts of one length, the shorter ones filled up.

    Attributes:
        ids: of tokens ``(N, L)``, int64.
        mask: true at tokens of the text, special ones included, false at what fills it up ``(N, L)``.
        words: which word of the text each token is a part of ``(N, L)``, int64, counted as :data:`WORD` finds them; -1
            for special tokens and filling. Tokenizers differ, words do not, so this is what joins two networks.
    """

    ids: Tensor
    mask: Tensor
    words: Tensor


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return WORD.findall(text.lower())


class Reader(nn.Module):
    """Tokenises the texts of a dataset once; afterwards a text is known by its row.

    The tables are no part of a checkpoint: they are made again when a network meets its data.

    Args:
        length: tokens of the longest text that the network takes.
    """

    ids: Tensor
    mask: Tensor
    words: Tensor

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        for name, dtype in (("ids", torch.int64), ("mask", torch.bool), ("words", torch.int64)):
            self.register_buffer(name, torch.zeros(0, 1, dtype=dtype), persistent=False)

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return the tokens of texts.

        Raises:
            ValueError: when a text has more than ``length``; names it.
        """

    def learn(self, texts: Sequence[str]) -> None:
        """Take the words of texts as the vocabulary, where there is none yet; nothing to do with a fixed one."""

    def read(self, texts: Sequence[str]) -> None:
        """Tokenise the texts that rows will stand for.

        Raises:
            ValueError: when there are none, or one is too long.
        """
        if not texts:
            raise ValueError("this network reads text and the dataset has none; choose one with captions or questions")
        found, device = self.tokenize(texts), self.ids.device
        self.ids, self.mask, self.words = (value.to(device) for value in found)

    def forward(self, rows: Tensor) -> Tokens:
        """Return the tokens of the texts at rows ``(N,)``."""
        return Tokens(self.ids[rows], self.mask[rows], self.words[rows])

    def _checked(self, text: str, count: int) -> None:
        if count > self.length:
            raise ValueError(
                f"the text {text[:60]!r} has {count} tokens and this network takes {self.length}; "
                "shorten it, or choose a network with a longer context"
            )


class WordReader(Reader):
    """Knows the words of the texts it met first, in alphabetical order; they are kept with the weights.

    Args:
        size: rows of the embedding that the tokens go to, two of which stand for no word.
        length: words of the longest text.

    Raises:
        ValueError: when size has no room for a word.
    """

    elastic = ("kept",)
    kept: Tensor

    def __init__(self, size: int, length: int) -> None:
        super().__init__(length)
        if size < 3:
            raise ValueError(f"vocabulary={size}: must be at least 3, for one word, filling and unknown words")
        self.size = size
        self.register_buffer("kept", torch.zeros(0, dtype=torch.uint8))

    @property
    def known(self) -> list[str]:
        """Words by row, from row 2 on."""
        return bytes(self.kept.cpu().tolist()).decode().split("\n") if len(self.kept) else []

    def learn(self, texts: Sequence[str]) -> None:
        """Take the words of texts as the vocabulary, unless there is one.

        Raises:
            ValueError: when they are more than there is room for.
        """
        if len(self.kept):
            return
        found = sorted({word for text in texts for word in words_of(text)})
        if len(found) > self.size - 2:
            raise ValueError(
                f"vocabulary={self.size}: the texts have {len(found)} words; give at least {len(found) + 2}"
            )
        data = "\n".join(found).encode()
        self.kept = torch.tensor(list(data), dtype=torch.uint8, device=self.kept.device)

    def read(self, texts: Sequence[str]) -> None:
        self.learn(texts)
        super().read(texts)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        row = {word: i for i, word in enumerate(self.known, 2)}
        split = [words_of(text) for text in texts]
        for text, parts in zip(texts, split, strict=True):
            self._checked(text, len(parts))
        longest = max([1, *map(len, split)])
        ids = torch.full((len(split), longest), PAD)
        words = torch.full((len(split), longest), -1)
        for i, found in enumerate(split):
            ids[i, : len(found)] = torch.tensor([row.get(word, UNKNOWN) for word in found], dtype=torch.int64)
            words[i, : len(found)] = torch.arange(len(found))
        return Tokens(ids, words >= 0, words)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        # as many bytes as the words have, which a network that was just built cannot know
        found = state_dict.get(f"{prefix}kept")
        if isinstance(found, Tensor) and found.ndim == 1:
            self.kept = torch.zeros(len(found), dtype=torch.uint8, device=self.kept.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


class PieceReader(Reader):
    """Reads with a fast tokenizer of transformers.

    Args:
        tokenizer: makes the pieces; its special tokens are added.
        length: tokens of the longest text.
        padding: id that fills texts up, and whether attention is kept from it is up to the mask; None: the tokenizer's.
        clean: what is done to a text before.
    """

    def __init__(
        self, tokenizer: Any, length: int, padding: int | None = None, clean: Callable[[str], str] = str
    ) -> None:
        super().__init__(length)
        self.tokenizer, self.clean = tokenizer, clean
        own = tokenizer.pad_token_id
        self.padding = padding if padding is not None else PAD if own is None else own

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        found = self.tokenizer([self.clean(text) for text in texts], return_offsets_mapping=True)
        for text, ids in zip(texts, found["input_ids"], strict=True):
            self._checked(text, len(ids))
        longest = max(map(len, found["input_ids"]))
        ids = torch.full((len(texts), longest), self.padding)
        mask = torch.zeros(len(texts), longest, dtype=torch.bool)
        words = torch.full((len(texts), longest), -1)
        for i, (row, offsets) in enumerate(zip(found["input_ids"], found["offset_mapping"], strict=True)):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = True
            words[i, : len(row)] = torch.tensor(_words(self.clean(texts[i]), offsets))
        return Tokens(ids, mask, words)


def _words(text: str, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return which word of a text each token is in, -1 for a token without letters of the text."""
    spans = [found.span() for found in WORD.finditer(text.lower())]
    where = [-1] * len(text)
    for number, (start, end) in enumerate(spans):
        where[start:end] = [number] * (end - start)
    return [next((where[i] for i in range(start, end) if where[i] >= 0), -1) for start, end in offsets]
