"""A small CLIP to be trained from scratch on captioned images, in the classes and file formats of transformers."""

from __future__ import annotations

import math

from transformers import CLIPConfig, CLIPModel

from distill.networks.clip import CLIP
from distill.networks.pieces import SentenceReader

MLP = 4
"""Width of a perceptron over that of its block, as in every CLIP."""


def clip_small(
    num_classes: int,
    image_size: list[int],
    channels: int,
    patch: int,
    width: int,
    depth: int,
    heads: int,
    text_width: int,
    text_depth: int,
    text_heads: int,
    vocabulary: int,
    length: int,
    dim: int,
    scale: float,
    templates: str | list[str],
) -> CLIP:
    """Return a CLIP of random weights: a vision transformer and a small text transformer that reads whole words.

    It knows the words of the captions and prompts that it met first; others are one unknown word to it.

    Args:
        num_classes: number of classes K until it meets their names.
        image_size: height and width of the images, equal.
        channels: of the images.
        patch: height and width of a patch in pixels.
        width: of the image tower.
        depth: blocks of the image tower.
        heads: of the image tower's attention.
        text_width: of the text tower.
        text_depth: blocks of the text tower.
        text_heads: of the text tower's attention.
        vocabulary: most words, filling and unknown words included.
        length: words of the longest text.
        dim: length D of the embeddings.
        scale: what cosines are multiplied by at the start, exp of ``logit_scale``: 1 / 0.07 in CLIP, 10 in SigLIP.
        templates: prompts, see :mod:`distill.networks.prompts`.

    Raises:
        ValueError: when the images are not square or no whole number of patches, or a width is no multiple of heads.
    """
    height, across = image_size
    if height != across or height % patch:
        raise ValueError(f"patch must divide the sides of square images, got {patch} for {height}x{across}")
    for name, size, parts in (("width", width, heads), ("text_width", text_width, text_heads)):
        if size % parts:
            raise ValueError(f"{name} must be a multiple of its {parts} heads, got {size}")
    if not scale > 0:
        raise ValueError(f"scale must be above 0, got {scale:g}")
    reader = SentenceReader(vocabulary, length)
    config = CLIPConfig(
        vision_config={
            "hidden_size": width, "intermediate_size": MLP * width, "num_hidden_layers": depth,
            "num_attention_heads": heads, "num_channels": channels, "image_size": height, "patch_size": patch,
            "projection_dim": dim,
        },
        text_config={
            "hidden_size": text_width, "intermediate_size": MLP * text_width, "num_hidden_layers": text_depth,
            "num_attention_heads": text_heads, "vocab_size": vocabulary + 1, "max_position_embeddings": length + 1,
            "projection_dim": dim, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": vocabulary,
        },
        projection_dim=dim,
        logit_scale_init_value=math.log(scale),
        attn_implementation="eager",
    )  # fmt: skip
    return CLIP(CLIPModel(config), reader, templates, num_classes, None)
