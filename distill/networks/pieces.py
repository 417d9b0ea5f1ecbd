"""Readers of the texts of image-text networks: a tokenizer's pieces, or words with a last token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from distill.networks.tokens import PAD, UNKNOWN, WORD, PieceReader, Tokens, WordReader

FILLING, OTHER, END = "<pad>", "<unk>", "<end>"


class TextReader(PieceReader):
    """Reads with any tokenizer of transformers; of a slow one it is not known which word a piece belongs to.

    Args:
        tokenizer: makes the pieces; its special tokens are added.
        length: tokens of the longest text.
        full: fill every text up to that length, on the side where the tokenizer does.
        clean: what is done to a text before.
    """

    def __init__(self, tokenizer: Any, length: int, full: bool, clean: Callable[[str], str] = str) -> None:
        super().__init__(tokenizer, length, clean=clean)
        self.full = full

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        found = super().tokenize(texts) if self.tokenizer.is_fast else self._slow(texts)
        more = self.length - found.ids.shape[1]
        if not self.full or not more and self.tokenizer.padding_side == "right":
            return found
        found = Tokens(*(F.pad(v, (0, more), value=x) for v, x in zip(found, (self.padding, False, -1), strict=True)))
        return found if self.tokenizer.padding_side == "right" else _to_the_right(found)

    def _slow(self, texts: Sequence[str]) -> Tokens:
        rows = self.tokenizer([self.clean(text) for text in texts])["input_ids"]
        for text, row in zip(texts, rows, strict=True):
            self._checked(text, len(row))
        ids = torch.full((len(rows), max(map(len, rows))), self.padding)
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), True
        return Tokens(ids, mask, torch.full_like(ids, -1))


def _to_the_right(tokens: Tokens) -> Tokens:
    """Return tokens with what fills them up at their beginning."""
    length = tokens.mask.shape[1]
    shift = length - tokens.mask.sum(1, keepdim=True)
    from_ = (torch.arange(length) - shift) % length
    return Tokens(*(value.gather(1, from_) for value in tokens))


class SentenceReader(WordReader):
    """Words, and behind them a last token, which a text tower without a look ahead reads the text off.

    Args:
        size: rows of the embedding for words, filling and unknown words; the last token has row ``size``.
        length: words of the longest text.
    """

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        found = super().tokenize(texts)
        where = found.mask.sum(1, keepdim=True)
        grown = [F.pad(value, (0, 1), value=fill) for value, fill in zip(found, (PAD, False, -1), strict=True)]
        return Tokens(grown[0].scatter(1, where, self.size), grown[1].scatter(1, where, True), grown[2])

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The same as a tokenizer of transformers."""
        rows = {FILLING: PAD, OTHER: UNKNOWN, **{word: i for i, word in enumerate(self.known, 2)}, END: self.size}
        made = Tokenizer(models.WordLevel(rows, unk_token=OTHER))
        made.normalizer = normalizers.Lowercase()
        made.pre_tokenizer = pre_tokenizers.Split(Regex(WORD.pattern), "removed", invert=True)
        made.post_processor = processors.TemplateProcessing(f"$A {END}", special_tokens=[(END, self.size)])
        return PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token=FILLING, unk_token=OTHER, eos_token=END, model_max_length=self.length + 1
        )
