"""ZeroShot: what every image-text network does once it can embed images and texts: classes by name, anchors, taps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.networks.prompts import prompts, templates
from distill.networks.tokens import Reader, Tokens
from distill.outputs import Anchors, InputSpec, Words

IMAGE, TEXT, SCALE = "image_embedding", "text_embedding", "scale"
"""Taps that every image-text network publishes beside its maps."""
AT_ONCE = 256
"""Texts that are embedded in one pass."""


class ZeroShot(nn.Module):
    """A network that compares images with texts, as a classifier: logits are ``s cos(v, T_k)``, plus a bias if any.

    ``T_k`` is the mean over templates of the class's text embeddings, each and the mean brought to length 1. It is
    computed when the network meets the names of the classes, and again whenever a training is interrupted for an
    evaluation: inside an epoch logits compare with the class vectors of the last evaluation, through which no gradient
    goes. With ``ema_decay`` those of an evaluation inside a training are from the weights that are not averaged.

    Taps are computed only if they are read: ``image_embedding (N, D)`` and ``text_embedding (N, D)`` of the batch's
    captions, both of length 1; ``scale (N,)``, the same number s for each image; and what a subclass adds.

    Args:
        reader: makes tokens of texts.
        prompt: templates by the name of their set, or themselves, see :mod:`distill.networks.prompts`.
        num_classes: number of classes K until it meets their names.
        width: length D of the embeddings.
        maps: names of further taps.
        input_spec: what its pixels are to be; None for those of the dataset.

    Raises:
        ValueError: when a template has no place for the class name.
    """

    reads_text = True
    elastic: ClassVar[tuple[str, ...]] = ("class_vectors",)
    class_vectors: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(
        self,
        reader: Reader,
        prompt: str | Sequence[str],
        num_classes: int,
        width: int,
        maps: Iterable[str],
        input_spec: InputSpec | None,
    ) -> None:
        super().__init__()
        self.reader = reader
        self.templates = templates(prompt)
        self.input_spec = input_spec
        self.published = nn.ModuleDict({name: nn.Identity() for name in (IMAGE, TEXT, SCALE, *maps)})
        self.taps = {name: f"published.{name}" for name in self.published}
        self.classes: tuple[str, ...] = ()
        for name, value in (("class_vectors", torch.zeros(num_classes, width)), ("scale", torch.ones(()))):
            self.register_buffer(name, value)
        self.register_buffer("bias", torch.zeros(()))

    @abstractmethod
    def see(self, x: Tensor, asked: Collection[str]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return embeddings ``(N, D)`` of images ``(N, C, H, W)``, of any length, and those taps that are asked for."""

    @abstractmethod
    def read(self, tokens: Tokens) -> Tensor:
        """Return embeddings ``(N, D)`` of texts, of any length."""

    @abstractmethod
    def trained_scale(self) -> tuple[Tensor, Tensor]:
        """Return s, what cosines are multiplied by, and what is added to them; with their gradients."""

    def meet(self, words: Words) -> None:
        """Embed the names of the classes, and tokenise the captions.

        Raises:
            ValueError: when the classes have no names, or a text is longer than the network takes.
        """
        found = prompts(words.classes, self.templates)
        self.reader.learn([*words.texts, *found])
        if words.texts:
            self.reader.read(words.texts)
        self.classes = tuple(words.classes)
        self._settle()

    def forward(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``; ``rows (N,)`` are those of their captions."""
        asked = [name for name, module in self.published.items() if module._forward_hooks]
        embedding, values = self.see(x, [name for name in asked if name not in (IMAGE, TEXT, SCALE)])
        embedding = self.published[IMAGE](unit(embedding))
        for name, value in values.items():
            self.published[name](value)
        scale, bias = self.trained_scale() if self.training else (self.scale, self.bias)
        if SCALE in asked:
            self.published[SCALE](scale.float().expand(len(x)))
        if TEXT in asked:
            self._caption(rows)
        with torch.autocast(x.device.type, enabled=False):  # half precision would round a scale of 100 away
            return scale.float() * (embedding.float() @ self.class_vectors.float().T) + bias.float()

    def _caption(self, rows: Tensor | None) -> None:
        if rows is not None and len(self.reader.ids):
            self.published[TEXT](unit(self.read(self.reader(rows))))
        elif self.classes:
            raise ValueError(f"{TEXT} is read and the dataset has no captions; choose one with captions")

    @property
    def anchors(self) -> Anchors | None:
        """Vectors of the classes and the scale of the logits; None before the network has met the names of classes."""
        return Anchors(self.class_vectors.float(), float(self.scale)) if self.classes else None

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings ``(N, D)`` of texts, of length 1, float32, without a gradient.

        Raises:
            ValueError: when a text is longer than the network takes.
        """
        tokens = self.reader.tokenize(list(texts))
        training = self.training
        nn.Module.train(self, False)
        with torch.inference_mode(False), torch.no_grad():
            device = self.class_vectors.device
            parts = zip(*(value.to(device).split(AT_ONCE) for value in tokens), strict=True)
            found = torch.cat([unit(self.read(Tokens(*part))).float() for part in parts])
        nn.Module.train(self, training)
        return found

    def encode_classes(self, names: Sequence[str]) -> Tensor:
        """Return a vector of length 1 for each class name ``(K, D)``, float32: the mean over the templates.

        Raises:
            ValueError: when the classes have no names, or a prompt is longer than the network takes.
        """
        found = self.encode_texts(prompts(names, self.templates)).unflatten(0, (len(names), -1))
        return F.normalize(found.mean(1), dim=-1)

    def train(self, mode: bool = True) -> ZeroShot:
        """Switch between training and evaluation, before which the class vectors are computed anew."""
        stale = self.training and not mode and bool(self.classes)
        super().train(mode)
        if stale:
            self._settle()
        return self

    def _settle(self) -> None:
        """Compute vectors of the classes and scale from the weights as they are now."""
        vectors = self.encode_classes(self.classes)
        with torch.inference_mode(False), torch.no_grad():
            scale, bias = self.trained_scale()
            if self.class_vectors.shape != vectors.shape:
                self.class_vectors = self.class_vectors.new_empty(vectors.shape)
            for buffer, value in ((self.class_vectors, vectors), (self.scale, scale), (self.bias, bias)):
                buffer.copy_(value.reshape(buffer.shape))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        # of as many classes as it was saved with; it meets those of its data afterwards
        found = state_dict.get(f"{prefix}class_vectors")
        if isinstance(found, Tensor) and found.shape[1:] == self.class_vectors.shape[1:]:
            self.class_vectors = self.class_vectors.new_zeros(found.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def unit(x: Tensor) -> Tensor:
    """Return vectors ``(N, D)`` of length 1, computed in float32."""
    return F.normalize(x.float(), dim=-1).to(x.dtype)
