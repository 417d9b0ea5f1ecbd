"""Priors: what answers to questions are worth that look at no image, beside which every accuracy is to be read.

After Goyal et al. (2017), Making the V in VQA matter: a network can be right often by knowing how questions are put.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from distill.data.images import Images, Notes


class Prior(NamedTuple):
    """Answers without a look.

    Attributes:
        majority: the answer with most credit in training, to every question ``(N,)``, int64.
        question: that of each question: the answer with most credit to the same words in training, the majority's where
            they were not asked there ``(N,)``, int64.
    """

    majority: Tensor
    question: Tensor


def credited(predicted: Tensor, target: Tensor, notes: Notes) -> Tensor:
    """Return the credit that answers ``(N,)`` get, in [0, 1], float64: 1 for the target where no answer has other.

    Args:
        predicted: class indices ``(N,)``.
        target: class indices ``(N,)``.
        notes: of the same samples.
    """
    if notes.answers is None or notes.credit is None:
        return (predicted == target).double()
    return ((notes.answers == predicted[:, None]) * notes.credit).sum(1).double()


def prior(train: Images, asked: Images, texts: Sequence[str]) -> Prior:
    """Return the answers that training questions suggest for other questions; of equal ones that which came first.

    Args:
        train: training questions.
        asked: the questions to answer.
        texts: words of the rows that the notes name.

    Raises:
        ValueError: when samples have no question, or several texts.
    """
    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    same = torch.tensor([number[text] for text in texts], dtype=torch.int64)
    words, others = (_words(split, same) for split in (train, asked))
    answers, credit, classes = _answers(train)
    right = answers >= 0
    answered, worth = answers[right], credit[right].double()
    every = _best(torch.zeros_like(answered), answered, worth, classes, 1, 0)
    table = _best(words[:, None].expand_as(answers)[right], answered, worth, classes, len(number), int(every))
    return Prior(every.expand(len(others)), table[others])


def _best(group: Tensor, answer: Tensor, worth: Tensor, classes: int, groups: int, default: int) -> Tensor:
    """Return the answer that is worth most in each group ``(groups,)``, int64; the default in groups without any."""
    keys, at = (group * classes + answer).unique(return_inverse=True)
    total = torch.bincount(at, worth, len(keys))
    place = torch.arange(len(at))
    first = torch.full((len(keys),), len(at)).scatter_reduce(0, at, place, "amin")
    order = first.argsort(descending=True)
    order = order[total[order].argsort(stable=True)]
    table = np.full(groups, default)
    table[(keys // classes)[order].numpy()] = (keys % classes)[order].numpy()  # what is written last stays
    return torch.from_numpy(table)


def _words(split: Images, same: Tensor) -> Tensor:
    text = split.notes.text
    if text is None or text.shape[1] != 1:
        raise ValueError("a prior is that of questions, one a sample")
    return same[text[:, 0].cpu()]


def _answers(split: Images) -> tuple[Tensor, Tensor, int]:
    """Return answers ``(N, R)``, -1 for none, their credit ``(N, R)``, and the number of classes."""
    notes, target = split.notes, split.target
    classes = max(len(split.classes), int(target.max()) + 1)
    if notes.answers is None or notes.credit is None:
        return target[:, None], torch.ones(len(target), 1), classes
    return notes.answers, notes.credit, classes
