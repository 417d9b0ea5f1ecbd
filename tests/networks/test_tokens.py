"""Tokens of texts: words of one's own, pieces of a tokenizer, and which word each piece belongs to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from distill.networks.tokens import PAD, UNKNOWN, PieceReader, WordReader, words_of

TEXTS = ["What color is it?", "a Red circle"]


def test_words_of__signs_are_words() -> None:
    assert words_of("What colour, is-it?") == ["what", "colour", ",", "is", "-", "it", "?"]


def test_word_reader__rows_are_alphabetical() -> None:
    reader = WordReader(16, 6)
    reader.read(TEXTS)
    assert reader.known == ["?", "a", "circle", "color", "is", "it", "red", "what"]
    ids, mask, words = reader(torch.tensor([1, 0, 1]))
    assert ids.tolist() == [[3, 8, 4, PAD, PAD], [9, 5, 6, 7, 2], [3, 8, 4, PAD, PAD]]
    assert mask.tolist()[0] == [True, True, True, False, False]
    assert words.tolist()[0] == [0, 1, 2, -1, -1]


def test_word_reader__words_are_kept_with_the_weights(tmp_path: Path) -> None:
    first, second = WordReader(16, 6), WordReader(16, 6)
    first.read(TEXTS)
    save_file(first.state_dict(), tmp_path / "words.safetensors")
    second.load_state_dict(load_file(tmp_path / "words.safetensors"))
    second.read(["a blue circle"])
    assert second.known == first.known
    assert second(torch.tensor([0])).ids.tolist() == [[3, UNKNOWN, 4]]


def test_word_reader__mistakes() -> None:
    with pytest.raises(ValueError, match="vocabulary=5: the texts have 8 words; give at least 10"):
        WordReader(5, 6).read(TEXTS)
    with pytest.raises(ValueError, match="'What color is it\\?' has 5 tokens and this network takes 4"):
        WordReader(16, 4).read(TEXTS)
    with pytest.raises(ValueError, match="the dataset has none"):
        WordReader(16, 4).read([])
    with pytest.raises(ValueError, match="vocabulary=2: must be at least 3"):
        WordReader(2, 4)


def pieces() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose pieces are single letters, between <s> and </s>."""
    known = {sign: i for i, sign in enumerate(["<pad>", "<s>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz?"])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")])
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>")


def test_piece_reader__words_of_pieces() -> None:
    reader = PieceReader(pieces(), 8)
    reader.read(["is it?", "a"])
    ids, mask, words = reader(torch.tensor([0, 1]))
    assert ids.shape == (2, 7)
    assert words.tolist() == [[-1, 0, 0, 1, 1, 2, -1], [-1, 0, -1, -1, -1, -1, -1]]
    assert mask.sum(1).tolist() == [7, 3]
    assert ids[1].tolist() == [1, 4, 2, 0, 0, 0, 0]


def test_piece_reader__a_text_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="has 7 tokens and this network takes 6"):
        PieceReader(pieces(), 6).read(["is it?"])
