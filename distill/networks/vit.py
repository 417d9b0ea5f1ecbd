"""A vision transformer for images of any size, by timm's code: small patches for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from distill.networks import friendly


def vit(
    num_classes: int, channels: int, image_size: Sequence[int], patch: int, width: int, depth: int, heads: int
) -> nn.Module:
    """Return a ViT (Dosovitskiy et al. 2021) that maps images ``(N, C, H, W)`` to logits ``(N, K)``.

    Its ``taps`` are ``stage1`` ... , tokens ``(L, width)`` after each block (of more than six, those at each quarter of
    the depth), and ``pooled``, the classifier's input.

    Args:
        num_classes: number of classes K.
        channels: channels of an image.
        image_size: height and width of an image.
        patch: pixels of a patch's side.
        width: of a token.
        depth: number of blocks.
        heads: of each block.

    Raises:
        ValueError: when patches do not tile the image, or heads do not divide the width.
    """
    height, wide = image_size
    if height % patch or wide % patch:
        raise ValueError(f"patch={patch}: must divide the image's height and width, {height} and {wide}")
    if width % heads:
        raise ValueError(f"heads={heads}: must divide width={width}")
    network: Any = VisionTransformer(
        img_size=(height, wide), patch_size=patch, in_chans=channels, num_classes=num_classes, embed_dim=width,
        depth=depth, num_heads=heads,
    )  # fmt: skip
    network.taps = {**friendly.stages([f"blocks.{i}" for i in range(depth)]), "pooled": "head:in"}
    made: nn.Module = network
    return made
