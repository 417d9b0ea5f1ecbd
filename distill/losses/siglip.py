"""SigLIP: for every pair of an image and a caption in the batch, whether they belong together, by a sigmoid.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023 (arXiv:2303.15343), algorithm 1:
``-1/N sum_ij log sigmoid(z_ij (s <v_i, t_j> + b))`` with z = 1 for pairs that belong together and -1 for all others;
s and b are learned, from 10 and -10. b is kept by the loss, for it moves the logits of all classes alike.

Known to go wrong: with b = 0 the many negatives of a batch give a first loss of N log 2 and steps to match; identical
captions as negatives of each other, see contrastive.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.contrastive import Embedded
from distill.losses.tap_pair import full_precision
from distill.outputs import Batch, Outputs


def siglip(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, group: Tensor) -> Tensor:
    """Return the negative log-likelihood of all pairs, summed over texts, averaged over images.

    Args:
        image: embeddings of length 1 ``(N, D)``.
        text: embeddings of length 1 ``(N, D)``.
        scale: s of each sample ``(N,)``.
        bias: b, a scalar.
        group: samples with equal numbers belong together ``(N,)``.
    """
    logits = scale[:, None] * (image @ text.T) + bias
    sign = torch.where(group[:, None] == group, 1.0, -1.0)
    return -F.logsigmoid(sign * logits).sum(1).mean()


class SigLIP(Embedded):
    """Sigmoid contrast between images and captions.

    Args:
        image_tap: name of the student's image embedding, a vector.
        text_tap: name of its embedding of the captions, of the same length.
        scale_tap: name of s, one number a sample.
        positives: what a sample belongs together with: those of the same ``"caption"``, or of the same ``"class"``.
        bias: b at the start.

    Raises:
        ValueError: for other positives.
    """

    def __init__(
        self,
        image_tap: str = "image_embedding",
        text_tap: str = "text_embedding",
        scale_tap: str = "scale",
        positives: str = "caption",
        bias: float = -10.0,
    ) -> None:
        super().__init__(image_tap, text_tap, scale_tap, positives)
        self.b = nn.Parameter(torch.tensor(bias))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        with full_precision(student.logits):
            image, text, scale, group = self.gathered(student, batch)
            return siglip(image, text, scale, self.b, group)
