"""Tiny image-text models with a real tokenizer, saved as transformers saves them."""

import gzip
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    PreTrainedModel,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from distill.networks.pieces import SentenceReader

TEXTS = ("a red circle", "a big, blue square", "a photo of a cat", "two cats")
CLASSES = ("red circle", "blue_square", "cat")
VISION = {
    "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 16,
    "patch_size": 4, "projection_dim": 12,
}  # fmt: skip
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def byte_pairs() -> CLIPTokenizer:
    """Return CLIP's tokenizer, from the vocabulary that open_clip ships."""
    import open_clip

    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    signs = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in signs]
    known = [*map(chr, signs), *(chr(256 + i) for i in range(len(others)))]
    pairs = [tuple(line.split()) for line in lines]
    words = [*known, *(f"{sign}</w>" for sign in known), *map("".join, pairs), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: i for i, word in enumerate(words)}, pairs)


def clip_model() -> CLIPModel:
    """Return a CLIP of random weights whose positions and scale are no small numbers."""
    torch.manual_seed(0)
    text = {**TOWER, "vocab_size": 33, "max_position_embeddings": 9, "eos_token_id": 32, "projection_dim": 12}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=12)).eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
        for tower in (model.text_model, model.vision_model):
            tower.embeddings.position_embedding.weight.normal_()
    return model


def words() -> SentenceReader:
    """Return a reader of the words of all texts here."""
    reader = SentenceReader(32, 8)
    reader.learn([*TEXTS, "a photo of the blue square cat."])
    return reader


def saved_clip(folder: Path) -> tuple[CLIPModel, str]:
    """Save a CLIP with a tokenizer of words, and an image processor of its own mean, std and size."""
    model = clip_model()
    return model, save(model, words().tokenizer, folder)


def saved_siglip(folder: Path) -> tuple[SiglipModel, str]:
    """Save a SigLIP with a tokenizer of words, for its own cannot be had without the hub."""
    torch.manual_seed(0)
    text = {**TOWER, "vocab_size": 33, "max_position_embeddings": 9, "projection_size": 24, "eos_token_id": 32}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config={**VISION, "vision_use_head": True})).eval()
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-1.5)
    size = {"height": 16, "width": 16}
    return model, save(model, words().tokenizer, folder, SiglipImageProcessor(size=size))


def save(model: PreTrainedModel, tokenizer: object, folder: Path, processor: object = None) -> str:
    """Save model, tokenizer and image processor."""
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    processor = processor or CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6], **size)
    for part in (model, tokenizer, processor):
        part.save_pretrained(folder)  # type: ignore[attr-defined]
    return str(folder)
