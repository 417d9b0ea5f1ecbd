"""Attention KL: let the student look where the teacher looks, from the question to the image and back.

Wang et al., "Distilled Dual-Encoder Model for Vision-Language Understanding", EMNLP 2022 (arXiv:2112.08723), DiDE:
``mean KL(A_t || A_s)`` of the attention A of the last layer from text to image, over the batch, the heads and the words
of the text, and the same from image to text, over the cells of the image; both with weight 1.

Heads that differ in number: ``mean`` compares the means over the heads. ``adapter`` makes the student's number of the
teacher's by a 1x1 convolution (Align-KD, Feng et al., CVPR 2025), whose weights are kept to shares here, so that what
it makes is a distribution and no target can leave the teacher's heads. ``cosine`` lets every teacher's head teach every
student's, by a softmax over the student's heads of the cosines (AMAD, Zhao et al., AAAI 2024; no code is published).

Known to go wrong: with minus infinity at masked words on both sides the term is not a number. Two networks must look at
the same pixels. Maps of different grids meet on the coarser one, averaged and normalised again. Tokens of two
tokenizers are no pairs: compare the pooled question, or words, never token by token. A control that averages the
teacher's features or makes them noise leaves no words to compare.
"""

import torch
from torch import Tensor, nn

from distill.losses.attention_maps import by_word, coarser, membership, shares, to_word
from distill.losses.base import find_spec
from distill.losses.tap_pair import TapPair, full_precision
from distill.outputs import Batch, Outputs, Spec, Specs

HEADS = ("mean", "adapter", "cosine")
TOKENS = ("pooled", "words")


def attention_kl(
    student: Tensor, teacher: Tensor, counts: Tensor | None = None, soft: bool = False, there: Tensor | None = None
) -> Tensor:
    """Return the KL divergence from the teacher's to the student's attention: mean over heads, queries and batch.

    Args:
        student: attention of queries to keys ``(N, heads, Q, C)``; normalised here.
        teacher: the same with as many heads, or any number where ``soft``; receives no gradient.
        counts: 1 for queries that count ``(N, Q)``, 0 for the others, over which no mean is taken; None: all count.
        soft: let every teacher's head teach every student's, by their cosines.
        there: which keys count ``(N, 1, 1, C)``, broadcast; None: all.
    """
    return divergence(shares(student, there), shares(teacher.detach(), there), counts, soft)


def divergence(p: Tensor, q: Tensor, counts: Tensor | None, soft: bool) -> Tensor:
    """Return the KL divergence from q to p, distributions ``(N, heads, Q, C)``, as :func:`attention_kl` does."""
    weight = torch.ones_like(p[:, 0, :, 0]) if counts is None else counts.to(p.dtype)
    weight = weight / weight.sum(1, keepdim=True).clamp_min(1)
    log_p, log_q = (x.clamp_min(torch.finfo(x.dtype).tiny).log() for x in (p, q))  # of what does not count, times 0
    if not soft:
        return ((q * (log_q - log_p)).sum(-1) * weight[:, None]).sum(2).mean()
    weighted = q * weight[:, None, :, None]
    each = (weighted * log_q).sum((2, 3))[:, :, None] - torch.einsum("ntqc,nsqc->nts", weighted, log_p)
    return (each * alike(p.detach(), q, weight)).sum(2).mean()


def alike(student: Tensor, teacher: Tensor, weight: Tensor) -> Tensor:
    """Return how much each teacher's head teaches each student's ``(N, T, S)``: a softmax over S of their cosines.

    Args:
        student: attention ``(N, S, Q, C)``.
        teacher: ``(N, T, Q, C)``.
        weight: of queries ``(N, Q)``, 0 for those that do not count.
    """
    there = (weight > 0)[:, None, :, None]
    one, other = ((x * there).flatten(2) for x in (student, teacher))
    lengths = one.norm(dim=2)[:, None] * other.norm(dim=2)[:, :, None]
    return ((other @ one.mT) / lengths.clamp_min(1e-12)).softmax(2)


class AttentionKL(TapPair):
    """KL divergence of cross-attention.

    Args:
        student_tap: name of the student's attention from text to image: ``(heads, h, w)`` of the whole question, or
            ``(heads, L, h, w)`` of each token where ``tokens`` is ``words``.
        teacher_tap: name of the teacher's.
        tokens: ``pooled`` or ``words``: each word's attention is the mean of its tokens', and only words that both
            networks have are compared.
        heads: ``mean``, ``adapter`` or ``cosine``.
        i2t: weight of the term from image to text beside that from text to image; needs ``words``.
        student_i2t_tap: name of the student's attention from image to text ``(heads, h, w, L)``.
        teacher_i2t_tap: name of the teacher's.
        student_words_tap: name of what says which word each of the student's tokens is in ``(L,)``, -1 for none.
        teacher_words_tap: name of the teacher's.

    Raises:
        ValueError: when an argument is none of its choices, or ``i2t`` is below 0, or above without words.
    """

    mixing: nn.Parameter

    def __init__(
        self,
        student_tap: str = "attention",
        teacher_tap: str = "attention",
        tokens: str = "pooled",
        heads: str = "mean",
        i2t: float = 0.0,
        student_i2t_tap: str = "attention_i2t",
        teacher_i2t_tap: str = "attention_i2t",
        student_words_tap: str = "words",
        teacher_words_tap: str = "words",
    ) -> None:
        super().__init__(student_tap, teacher_tap)
        for name, value, known in (("heads", heads, HEADS), ("tokens", tokens, TOKENS)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if i2t < 0:
            raise ValueError(f"i2t must be at least 0, got {i2t:g}")
        if i2t and tokens != "words":
            raise ValueError(f"i2t={i2t:g}: attention to the question is attention to its words; set tokens=words")
        self.tokens, self.heads, self.i2t = tokens, heads, i2t
        self.i2t_taps: tuple[str, ...] = (student_i2t_tap, teacher_i2t_tap) if i2t else ()
        self.words_taps: tuple[str, ...] = (student_words_tap, teacher_words_tap) if tokens == "words" else ()

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap, *self.words_taps[:1], *self.i2t_taps[:1])

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap, *self.words_taps[1:], *self.i2t_taps[1:])

    def prepare(self, student: Specs, teacher: Specs) -> None:
        mine, other = self.specs(student, teacher)
        form = "(heads, L, h, w)" if self.tokens == "words" else "(heads, h, w)"
        taps = (self.student_tap, self.teacher_tap)
        self._check(taps, (mine, other), form, f"with tokens={self.tokens} attention from text to image is {form}")
        heads = mine.shape[0], other.shape[0]
        pairs = {"(L,)": self.words_taps, "(heads, h, w, L)": self.i2t_taps}
        for shape, (one, two) in ((form, pair) for form, pair in pairs.items() if pair):
            specs = find_spec(student, one, "student"), find_spec(teacher, two, "teacher")
            self._check((one, two), specs, shape, f"these must be {shape}")
            if shape != "(L,)" and tuple(spec.shape[0] for spec in specs) != heads:
                raise ValueError(
                    f"student tap {one!r} of shape {specs[0].shape} and teacher tap {two!r} of shape {specs[1].shape} "
                    f"must have the {heads[0]} and {heads[1]} heads of the attention from text to image"
                )
        if self.heads == "adapter":
            self.mixing = nn.Parameter(torch.zeros(heads))  # of its softmax: the mean of the teacher's heads at first

    @staticmethod
    def _check(taps: tuple[str, ...], specs: tuple[Spec, Spec], form: str, why: str) -> None:
        mine, other = specs
        if {len(mine.shape), len(other.shape)} != {form.count(",") + 1 if form != "(L,)" else 1}:
            raise ValueError(
                f"student tap {taps[0]!r} has shape {mine.shape} and teacher tap {taps[1]!r} {other.shape}; "
                f"{why}, h and w those of the cells of the image"
            )

    def _compared(self, student: Tensor, teacher: Tensor, counts: Tensor | None, there: Tensor | None) -> Tensor:
        """Return the divergence of attention ``(N, heads, Q, C)``, the heads joined as they have to be."""
        p, q = shares(student, there), shares(teacher, there)
        if self.heads == "mean":
            p, q = p.mean(1, keepdim=True), q.mean(1, keepdim=True)
        elif self.heads == "adapter":
            q = torch.einsum("st,ntqc->nsqc", self.mixing.softmax(1), q)
        return divergence(p, q, counts, self.heads == "cosine")

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        mine, other = self.features(student, teacher)
        with full_precision(mine):
            if self.tokens == "pooled":
                one, two = (x.flatten(2)[:, :, None] for x in coarser(mine, other))
                return self._compared(one, two, None, None)
            assert teacher is not None
            words = student.features[self.words_taps[0]], teacher.features[self.words_taps[1]]
            count = max(x.shape[1] for x in words)
            parts = [membership(x, count) for x in words]
            both = (parts[0].sum(2) > 0) & (parts[1].sum(2) > 0)
            one, two = (by_word(x, p).flatten(3) for x, p in zip(coarser(mine, other), parts, strict=True))
            value = self._compared(one, two, both, None)
            if self.i2t:
                value = value + self.i2t * self._back(student, teacher, parts, both)
            return value

    def _back(self, student: Outputs, teacher: Outputs, parts: list[Tensor], both: Tensor) -> Tensor:
        """Return the divergence of attention from image to text, over the words that both networks have."""
        found = student.features[self.i2t_taps[0]], teacher.features[self.i2t_taps[1]].detach()
        one, two = coarser(*(x.float().movedim(-1, 2) for x in found))
        one, two = (to_word(x.movedim(2, -1).flatten(2, 3), p) for x, p in zip((one, two), parts, strict=True))
        return self._compared(one, two, None, both[:, None, None])
