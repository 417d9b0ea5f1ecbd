"""Any CLIP or SigLIP of transformers by hub name or local folder: image embeddings, zero-shot logits, dense maps."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    PreTrainedModel,
    SiglipConfig,
)

from distill.networks import dense
from distill.networks.hf import files, image_processor, pixels, quiet
from distill.networks.pieces import TextReader
from distill.networks.tokens import Reader, Tokens
from distill.networks.zeroshot import ZeroShot
from distill.outputs import InputSpec

ATTENTION = "attention"
MOST = 100.0
"""CLIP's scale is not let above this (Radford et al. 2021, section 2.5)."""
NO_TOKENIZER = "there is no tokenizer that can be read; save its tokenizer there"
RESAMPLE = {"bilinear": 2, "bicubic": 3}
"""As Pillow numbers ways to resize."""


class CLIP(ZeroShot):
    """A CLIP or SigLIP of transformers.

    Taps beside those of every :class:`ZeroShot`: the maps ``dense_value``, ``dense_value_residual``, ``dense_vv`` and
    ``dense_last_hidden``, ``(N, D, h, w)`` in the space of the texts, not brought to length 1; and ``attention``, that
    of the image tower's last block ``(N, heads, L, L)``. SigLIP pools by attention, which is where its maps are taken;
    ``dense_value_residual`` and ``dense_last_hidden`` have no meaning there and are not published.

    Args:
        model: ``CLIPModel`` or ``SiglipModel``, with eager attention.
        reader: makes tokens of texts.
        prompt: templates, see :mod:`distill.networks.prompts`.
        num_classes: number of classes K until it meets their names.
        input_spec: what its pixels are to be; None for those of the dataset, at the size that the model is made for.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        reader: Reader,
        prompt: str | Sequence[str],
        num_classes: int,
        input_spec: InputSpec | None,
    ) -> None:
        self.pools = isinstance(model.config, SiglipConfig)
        text = model.config.text_config
        width = text.projection_size if self.pools else model.config.projection_dim
        maps = dense.POOLED if self.pools else tuple(dense.SOURCES)
        super().__init__(reader, prompt, num_classes, width, (*maps, ATTENTION), input_spec)
        self.model = model

    def see(self, x: Tensor, asked: Collection[str]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return embeddings of images and the maps that are asked for."""
        vision = self.model.vision_model
        size = vision.config.image_size
        seen = vision(
            pixel_values=x,
            interpolate_pos_encoding=tuple(x.shape[-2:]) != (size, size),
            output_hidden_states=any(name != ATTENTION for name in asked),
            output_attentions=ATTENTION in asked,
        )
        patch = vision.config.patch_size
        grid = x.shape[-2] // patch, x.shape[-1] // patch
        values = {name: dense.as_grid(self._tokens(seen, name), *grid) for name in asked if name != ATTENTION}
        if ATTENTION in asked:
            values[ATTENTION] = dense.attention_of(seen.attentions)
        pooled = seen.pooler_output
        return pooled if self.pools else self.model.visual_projection(pooled), values

    def _tokens(self, seen: Any, name: str) -> Tensor:
        """Return the patches of a dense map ``(N, h w, D)``."""
        vision = self.model.vision_model
        if self.pools:
            return dense.pooled_apart(vision.head, seen.last_hidden_state, name)
        h = dense.SOURCES[name](vision.encoder.layers[-1], seen.hidden_states[-2], seen.last_hidden_state)
        found: Tensor = self.model.visual_projection(vision.post_layernorm(h))
        return found[:, 1:]

    def read(self, tokens: Tokens) -> Tensor:
        """Return embeddings of texts; what fills them up is behind CLIP's last token, and read by SigLIP on purpose."""
        found: Tensor = self.model.text_model(input_ids=tokens.ids).pooler_output
        return found if self.pools else self.model.text_projection(found)

    def trained_scale(self) -> tuple[Tensor, Tensor]:
        """Return s and the bias, which CLIP has not; in training CLIP's s is kept at 100 or below."""
        scale = self.model.logit_scale
        if self.pools:
            return scale.exp().squeeze(), self.model.logit_bias.squeeze()
        if self.training:
            with torch.no_grad():
                scale.clamp_(max=math.log(MOST))
        return scale.exp(), torch.zeros_like(scale)

    def save_transformers(self, folder: Path, spec: InputSpec) -> None:
        """Write what ``CLIPModel.from_pretrained`` and its tokenizer and image processor load.

        Args:
            folder: to write to.
            spec: mean and std of the pixels that it was trained on.
        """
        size = self.model.config.vision_config.image_size if spec.size is None else spec.size
        height, width = (size, size) if isinstance(size, int) else size
        tokenizer: Any = self.reader.tokenizer
        processor = CLIPImageProcessor(
            size={"height": height, "width": width}, do_center_crop=False, image_mean=list(spec.mean),
            image_std=list(spec.std), resample=RESAMPLE[spec.mode],
        )  # fmt: skip
        with quiet():
            for part in (self.model, tokenizer, processor):
                part.save_pretrained(folder)


def clip(name: str, num_classes: int, templates: str | list[str], image_size: int | None) -> CLIP:
    """Return a CLIP or SigLIP of transformers with its weights. No code of the hub is run, no pickle is read.

    Its ``input_spec`` is that of its image processor: images are resized to the size that the processor crops to,
    uncropped.

    Args:
        name: local folder or hub name, with ``config.json``, ``preprocessor_config.json``, ``model.safetensors`` and
            the files of its tokenizer; what a run of ours leaves in ``transformers/`` is such a folder.
        num_classes: number of classes K until it meets their names.
        templates: prompts, see :mod:`distill.networks.prompts`.
        image_size: height and width that images are resized to, for which the position embeddings are interpolated;
            None: as the image processor says.

    Raises:
        ValueError: when there is no such model, it is no CLIP, a file is missing, or the size is below one patch.
    """
    with files(name) as source:
        config = _config(name, source)
        processor = image_processor(name, source)
        if processor is None:
            raise ValueError(
                f"name={name!r}: there is no preprocessor_config.json, so how its pixels are normalised is unknown; "
                "save its image processor there"
            )
        model = _model(name, config, source)
        reader = _reader(name, config, source)
    return CLIP(model, reader, templates, num_classes, _spec(config, processor, image_size))


def _config(name: str, source: dict[str, Any]) -> Any:
    if source["local_files_only"] and not (Path(name) / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {name}")
    try:
        config = AutoConfig.from_pretrained(name, **source)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"name={name!r}: its config.json names no model that transformers has itself, and other code is never run; "
            "choose another"
        ) from error
    if not isinstance(config, CLIPConfig | SiglipConfig):
        raise ValueError(
            f"name={name!r}: is a {config.model_type!r} model; choose a CLIP or a SigLIP of fixed size, such as "
            "openai/clip-vit-base-patch32 or google/siglip2-base-patch16-224"
        )
    if isinstance(config, SiglipConfig) and not config.vision_config.vision_use_head:
        raise ValueError(f"name={name!r}: its image tower has no pooling head and so embeds no image; choose another")
    return config


def _model(name: str, config: Any, source: dict[str, Any]) -> PreTrainedModel:
    model, info = AutoModel.from_pretrained(
        name,
        config=config,
        use_safetensors=True,
        weights_only=True,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        **source,
    )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ValueError(f"name={name!r}: its weights have no {missing[0]}; choose a complete model")
    return model


def _reader(name: str, config: Any, source: dict[str, Any]) -> TextReader:
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **source)
    except ImportError as error:
        raise ValueError(f"name={name!r}: its tokenizer needs sentencepiece; pip install sentencepiece") from error
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"name={name!r}: {NO_TOKENIZER}") from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # made by transformers without any file
        raise ValueError(f"name={name!r}: {NO_TOKENIZER}")
    siglip = isinstance(config, SiglipConfig)
    # SigLIP reads the last of its tokens whatever it is, and was trained on small letters
    return TextReader(
        tokenizer, config.text_config.max_position_embeddings, full=siglip, clean=str.lower if siglip else str
    )


def _spec(config: Any, processor: Any, image_size: int | None) -> InputSpec:
    found, _ = pixels(config, processor)
    assert found is not None
    patch = config.vision_config.patch_size
    if image_size is not None:
        if image_size < patch:
            raise ValueError(f"image_size={image_size}: is below one patch of {patch} pixels; give a multiple of it")
        found = replace(found, size=(image_size, image_size))
    return replace(found, mode="bicubic") if processor.resample == RESAMPLE["bicubic"] else found
