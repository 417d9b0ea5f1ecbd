"""Any model of open_clip by its name and set of weights: image embeddings, zero-shot logits, the map of values."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.networks import dense, hub
from distill.networks.tokens import Reader, Tokens
from distill.networks.zeroshot import ZeroShot
from distill.outputs import InputSpec

FOLDER = "local-dir:"


class OpenClipReader(Reader):
    """Tokenises as open_clip does; which word a token belongs to is not known.

    Args:
        tokenizer: of open_clip.
        length: tokens of the longest text.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        super().__init__(length)
        self.tokenizer = tokenizer

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        for text in texts:
            self._checked(text, self._count(text))
        ids = self.tokenizer(list(texts), self.length)
        return Tokens(ids, ids != 0, torch.full_like(ids, -1))

    def _count(self, text: str) -> int:
        inner = getattr(self.tokenizer, "tokenizer", None)  # of transformers
        if inner is not None:
            return len(inner(text)["input_ids"])
        return len(self.tokenizer.encode(text)) + 2  # its first and its last token


class OpenClip(ZeroShot):
    """A model of open_clip.

    Beside the taps of every :class:`ZeroShot` there is ``dense_value (N, D, h, w)`` where the image tower is a vision
    transformer that reads its first token, by its last block's values, or a ResNet with an attention pool, by that
    pool's values (MaskCLIP, Zhou et al. 2022). Other towers publish no map.

    Args:
        model: what ``open_clip.create_model`` makes.
        reader: makes tokens of texts.
        prompt: templates, see :mod:`distill.networks.prompts`.
        num_classes: number of classes K until it meets their names.
        input_spec: what its pixels are to be.
    """

    def __init__(
        self, model: Any, reader: Reader, prompt: str | Sequence[str], num_classes: int, input_spec: InputSpec
    ) -> None:
        with torch.no_grad():
            width = model.eval().encode_text(torch.zeros(1, reader.length, dtype=torch.int64)).shape[-1]
        maps = (dense.VALUE,) if _last_of(model.visual) is not None else ()
        super().__init__(reader, prompt, num_classes, width, maps, input_spec)
        self.model = model

    def see(self, x: Tensor, asked: Collection[str]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return embeddings of images, and the map of values if it is asked for."""
        if not asked:
            return self.model.encode_image(x), {}
        visual = self.model.visual
        last: Any = _last_of(visual)
        kept: list[Tensor] = []
        handle = last.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
        try:
            embedding = self.model.encode_image(x)
        finally:
            handle.remove()
        return embedding, {dense.VALUE: _values(visual, last, kept[0])}

    def read(self, tokens: Tokens) -> Tensor:
        """Return embeddings of texts."""
        found: Tensor = self.model.encode_text(tokens.ids)
        return found

    def trained_scale(self) -> tuple[Tensor, Tensor]:
        """Return s, kept at 100 or below in training where there is no bias, and the bias."""
        scale, bias = self.model.logit_scale, getattr(self.model, "logit_bias", None)
        if self.training and bias is None:
            with torch.no_grad():
                scale.clamp_(max=torch.tensor(100.0).log().item())
        return scale.exp().squeeze(), torch.zeros_like(scale).squeeze() if bias is None else bias.squeeze()


def _last_of(visual: Any) -> Any | None:
    """Return the module whose input the map of values is made from; None where the tower has no such map."""
    if hasattr(visual, "attnpool") and hasattr(visual.attnpool, "c_proj"):
        return visual.attnpool
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    first = getattr(visual, "pool_type", None) == "tok" and getattr(visual, "attn_pool", None) is None
    return blocks[-1] if blocks and first and isinstance(blocks[-1].attn, torch.nn.MultiheadAttention) else None


def _values(visual: Any, last: Any, x: Tensor) -> Tensor:
    if hasattr(visual, "attnpool"):
        tokens = last.c_proj(last.v_proj(x.flatten(2).transpose(1, 2)))
        return dense.as_grid(tokens, *x.shape[-2:])
    x = x if visual.transformer.batch_first else x.transpose(0, 1)
    attention, width = last.attn, last.attn.embed_dim
    values = F.linear(last.ln_1(x), attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :])
    tokens = visual.ln_post(last.ls_1(attention.out_proj(values)))[:, 1:]
    return dense.as_grid(tokens if visual.proj is None else tokens @ visual.proj, *visual.grid_size)


def open_clip(
    name: str, weights: str | None, num_classes: int, templates: str | list[str], image_size: int | None
) -> OpenClip:
    """Return a model of open_clip. Weights are read without running any code in them.

    Args:
        name: as in ``open_clip.list_models()``; or ``hf-hub:OWNER/NAME`` or ``local-dir:FOLDER`` with open_clip's
            ``open_clip_config.json`` and weights.
        weights: tag as in ``open_clip.list_pretrained_tags_by_model(name)``, or a file; None: random ones, or those of
            the hub or folder that the name says.
        num_classes: number of classes K until it meets their names.
        templates: prompts, see :mod:`distill.networks.prompts`.
        image_size: height and width that images are resized to; None: as the weights say.

    Raises:
        ValueError: when open_clip is not installed, or there is no such model or no such weights.
    """
    try:
        library = importlib.import_module("open_clip")
    except ImportError as error:
        raise ValueError("open_clip is not installed; pip install 'distill[open_clip]'") from error
    if ":" not in name and name not in library.list_models():
        raise ValueError(f"name={name!r}: open_clip has no such model; open_clip.list_models() lists them")
    with _errors(name, weights):
        size = {} if image_size is None else {"force_image_size": image_size}
        model = library.create_model(name, pretrained=weights, pretrained_text=False, weights_only=True, **size)
        tokenizer = library.get_tokenizer(name)
        reader = OpenClipReader(tokenizer, tokenizer.context_length)
    found = library.get_model_preprocess_cfg(model)
    sides = found["size"] if isinstance(found["size"], list | tuple) else (found["size"], found["size"])
    mode = "bilinear" if found.get("interpolation") == "bilinear" else "bicubic"
    spec = InputSpec(tuple(found["mean"]), tuple(found["std"]), (sides[0], sides[1]), mode)
    return OpenClip(model, reader, templates, num_classes, spec)


@contextmanager
def _errors(name: str, weights: str | None) -> Iterator[None]:
    """Keep open_clip from giving advice, and turn what goes wrong into one sentence."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with hub.cache_where_unreachable():
            yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"name={name!r} with weights={weights!r}: cannot be had ({reason}); give a tag or a file of its weights, "
            f"{FOLDER}FOLDER as the name, or weights=null for random ones"
        ) from error
    finally:
        logging.disable(before)
