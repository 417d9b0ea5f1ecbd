"""Aligned: any image classifier as the student of an image-text teacher, its map and vector in the teacher's space."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.networks.spatial import Spatial, without_classifier
from distill.outputs import Anchors, InputSpec, Words
from distill.taps import published


def cosines(embedding: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return logits ``(N, K)``: cosines of vectors of length 1 ``(N, D)`` and ``(K, D)``, times the scale; float32."""
    if not torch.is_autocast_enabled(embedding.device.type):
        return scale * (embedding.float() @ text.float().T)
    with torch.autocast(embedding.device.type, enabled=False):  # half precision would round a scale of 100 away
        return scale * (embedding.float() @ text.float().T)


class Aligned(nn.Module):
    """A classifier with a 1x1 convolution W from its last map to an embedding space.

    The map ``W F`` and the image's vector ``normalize(W GAP(F))`` share W, so they live in one space. Taps: ``dense``
    ``(N, width, h, w)``, not normalised, ``image_embedding`` ``(N, width)`` of length 1, and those of the network.

    Args:
        network: maps images ``(N, C, H, W)`` to logits ``(N, K)``.
        width: of the embedding space, which is that of the teacher.
        num_classes: number of classes K.
        channels: channels of an image.
        image_size: height and width of an image.
        tap: the map F, a published name or a module path; ``"auto"`` finds the last one.
        anchored: logits are cosines with the teacher's text vectors times its scale; they are kept with the weights,
            and the network's own classifier is taken out. False: logits are those of the network.
        anchor: name of the teacher whose text vectors are taken, where several have them; None for the only one.

    Raises:
        ValueError: when the network has no such map or no classifier to take out.
    """

    text: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        width: int,
        num_classes: int,
        channels: int,
        image_size: Sequence[int],
        tap: str = "auto",
        anchored: bool = False,
        anchor: str | None = None,
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}; it is the length of the teacher's vectors")
        own = getattr(network, "input_spec", None)
        self.input_spec = own if isinstance(own, InputSpec) else None
        size = own.size if isinstance(own, InputSpec) and own.size is not None else (image_size[0], image_size[1])
        self.width, self.num_classes, self.anchored, self.anchor = width, num_classes, anchored, anchor
        self.taps = {name: f"backbone.network.{path}" for name, path in published(network).items()}
        self.taps |= {"dense": "dense", "image_embedding": "image_embedding"}
        if anchored:
            without_classifier(network, num_classes)
            self._take(torch.zeros(num_classes, width), torch.tensor(1.0))
        self.backbone = Spatial(network, tap, (channels, *size))
        self.projector = nn.Conv2d(self.backbone.shape[0], width, 1, bias=False)
        self.dense, self.image_embedding = nn.Identity(), nn.Identity()
        self.classes: tuple[str, ...] = ()

    def _take(self, text: Tensor, scale: Tensor) -> None:
        self.register_buffer("text", text)
        self.register_buffer("scale", scale)

    def meet(self, words: Words) -> None:
        """Take over the text vectors of the classes, where the student is anchored and a teacher has them.

        Raises:
            ValueError: when they are of another width or number than the student's, or there are none at all.
        """
        self.classes = tuple(words.classes)
        found = [self.anchor] if self.anchor else list(words.anchors)
        missing = [name for name in found if name not in words.anchors]
        if not self.anchored or not words.anchors and self.text.any():
            return
        if not found or missing:
            there = f"; those that do are {', '.join(words.anchors)}" if words.anchors else ""
            raise ValueError(
                f"anchored=true needs the text vectors of a teacher{f' {self.anchor!r}' if missing else ''}, and there "
                f"is none that embeds text{there}; choose one such as teacher=[clip], or set student.anchored=false"
            )
        if len(found) > 1:
            raise ValueError(f"anchored=true: {' and '.join(found)} both embed text; name one with student.anchor")
        anchors = words.anchors[found[0]]
        if tuple(anchors.text.shape) != (self.num_classes, self.width):
            classes, width = anchors.text.shape
            raise ValueError(
                f"width={self.width} and num_classes={self.num_classes}: the text vectors of teacher {found[0]!r} are "
                f"{classes} of length {width}; set student.width={width}"
            )
        self.recognise(anchors.text, words.classes, anchors.scale)

    @torch.no_grad()
    def recognise(self, vectors: Tensor, names: Sequence[str], scale: float | None = None) -> None:
        """Replace the classes by others that are known by their names alone.

        Args:
            vectors: one of the teacher's text vectors a class ``(K, width)``; brought to length 1.
            names: of the K classes.
            scale: of the logits; None leaves that of before, or 1 where the student had a classifier of its own,
                which from now on is not asked.

        Raises:
            ValueError: when vectors and names are not as many, or the vectors of another width.
        """
        if vectors.dim() != 2 or len(vectors) != len(names) or vectors.shape[1] != self.width or not len(names):
            raise ValueError(
                f"{len(names)} names need vectors of shape ({len(names)}, {self.width}), the student's width; "
                f"got {tuple(vectors.shape)}"
            )
        like = self.projector.weight
        before = self.scale if self.anchored else like.new_ones(())
        text = F.normalize(vectors.float(), dim=1).to(like.device)
        self._take(text, before if scale is None else like.new_tensor(scale, dtype=torch.float32))
        self.anchored, self.num_classes, self.classes = True, len(names), tuple(names)

    @property
    def anchors(self) -> Anchors | None:
        """Text vectors of the classes that an anchored student compares with; None for another."""
        return Anchors(self.text, float(self.scale)) if self.anchored else None

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        logits, maps = self.backbone(x)
        dense = self.dense(self.projector(maps))
        embedding = self.image_embedding(F.normalize(dense.float().mean((2, 3)), dim=1))
        return cosines(embedding, self.text, self.scale) if self.anchored else logits

    def folded(self) -> nn.Module:
        """Return what gives the same logits and nothing else: text vectors as a linear layer, no taps, no map of W."""
        if not self.anchored:
            return copy.deepcopy(self.backbone.network)
        return Folded(copy.deepcopy(self.backbone), self.projector.weight, self.text * self.scale)


class Folded(nn.Module):
    """An anchored student as it is shipped: its network, W, and a linear classifier of scaled text vectors.

    Args:
        backbone: network with its last map.
        projector: W ``(D, C, 1, 1)``.
        text: text vectors times their scale ``(K, D)``.
    """

    def __init__(self, backbone: Spatial, projector: Tensor, text: Tensor) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = _linear(projector.flatten(1))
        self.classifier = _linear(text)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, K)`` of images ``(N, C, H, W)``."""
        maps = self.backbone(x)[1]
        logits: Tensor = self.classifier(F.normalize(self.projector(maps.mean((2, 3))), dim=1))
        return logits


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return layer
