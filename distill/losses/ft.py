"""FT: match a compressed paraphrase of the teacher's feature.

Kim, Park and Kwak, "Paraphrasing Complex Network: Network Compression via Factor Transfer", NeurIPS 2018
(arXiv:1802.04977). An autoencoder of the teacher's last map, the paraphraser, is trained by ``mean (x - P(x))^2``
(equation 1); a translator turns the student's map into a factor of the same shape; both factors, each sample flattened
to unit length, are compared by the mean absolute difference (equation 2, with the mean of the authors' code).

The paper trains the paraphraser first and keeps it fixed afterwards. Both parts are in here, each with its own weight,
number or schedule: ``experiment=ft_resnet56_resnet20`` makes the two stages of them. A part of weight 0 is not computed
and what it alone trains stays; with both at once the student follows a paraphrase that still moves. The factor of the
teacher never passes a gradient to the paraphraser.

Known to go wrong: a widespread implementation first averages the squared factor over channels, as AT does
(``strict_reference``, with a batch norm in the translator); its weight is 200, that of the authors' code 500.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.losses.base import Loss, number, require_teacher
from distill.losses.paired import find_pair, same_size
from distill.outputs import Batch, Outputs, Specs
from distill.schedules.base import Schedule

SLOPE = 0.1  # of the leaky ReLU after every layer, from the authors' code


def ft(student: Tensor, teacher: Tensor, strict_reference: bool = False) -> Tensor:
    """Return the mean absolute difference of two factors of unit length.

    Args:
        student: factor ``(N, F, H, W)`` of the student.
        teacher: factor ``(N, F, H', W')``; the larger of both is averaged to the smaller; receives no gradient.
        strict_reference: average the squared factor over channels first.
    """
    s, t = same_size(student.float(), teacher.detach().float())
    if strict_reference:
        s, t = s.square().mean(1), t.square().mean(1)
    return (F.normalize(s.flatten(1), dim=1) - F.normalize(t.flatten(1), dim=1)).abs().mean()


def encoder(inputs: int, outputs: int, batch_norm: bool = False) -> nn.Sequential:
    """Return three 3x3 convolutions with leaky ReLUs, the shape of both translator and paraphraser."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, inputs), (inputs, outputs), (outputs, outputs)):
        layers.append(nn.Conv2d(before, after, 3, padding=1, bias=not batch_norm))
        layers += [nn.BatchNorm2d(after)] * batch_norm
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


def decoder(inputs: int, outputs: int) -> nn.Sequential:
    """Return three 3x3 transposed convolutions with leaky ReLUs, from a factor to what it paraphrases."""
    layers: list[nn.Module] = []
    for before, after in ((inputs, inputs), (inputs, outputs), (outputs, outputs)):
        layers += [nn.ConvTranspose2d(before, after, 3, padding=1), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class FT(Loss):
    """Factor transfer.

    Args:
        student_tap: map of the student.
        teacher_tap: map of the teacher.
        rate: k, channels of a factor by those of the teacher's map.
        factor: weight of the difference of the factors; trains student and translator.
        reconstruction: weight of the paraphraser's own error; trains the paraphraser.
        strict_reference: average the squared factor over channels first, batch norm in the translator.

    Raises:
        ValueError: when the rate is not above 0.
    """

    paraphraser: nn.Module
    restorer: nn.Module
    translator: nn.Module

    def __init__(
        self,
        student_tap: str = "stage3",
        teacher_tap: str = "stage3",
        rate: float = 0.5,
        factor: float | Schedule = 500.0,
        reconstruction: float | Schedule = 1.0,
        strict_reference: bool = False,
    ) -> None:
        super().__init__()
        if not rate > 0:
            raise ValueError(f"rate must be above 0, got {rate:g}: a factor has rate times the teacher's channels")
        self.student_tap = student_tap
        self.teacher_tap = teacher_tap
        self.rate = rate
        self.factor = factor
        self.reconstruction = reconstruction
        self.strict_reference = strict_reference

    def student_taps(self) -> tuple[str, ...]:
        return (self.student_tap,)

    def teacher_taps(self) -> tuple[str, ...]:
        return (self.teacher_tap,)

    def prepare(self, student: Specs, teacher: Specs) -> None:
        pair = find_pair(student, teacher, self.student_tap, self.teacher_tap)
        pair.require_maps()
        if self.strict_reference and pair.student[1:] == (1, 1):
            pair.refuse("the batch norm of strict_reference needs more than one position; choose an earlier stage")
        channels = pair.teacher[0]
        size = max(round(channels * self.rate), 1)
        self.paraphraser, self.restorer = encoder(channels, size), decoder(size, channels)
        self.translator = encoder(pair.student[0], size, batch_norm=self.strict_reference)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        feature = require_teacher(teacher).features[self.teacher_tap].detach().float()
        if feature.is_inference():
            feature = feature.clone()  # for the convolution keeps it for its gradient
        mine = student.features[self.student_tap].float()
        weight, own = number(self.factor), number(self.reconstruction)
        total = student.logits.new_zeros((), dtype=torch.float32)
        with torch.autocast(feature.device.type, enabled=False):
            with torch.set_grad_enabled(torch.is_grad_enabled() and own != 0):
                paraphrase = self.paraphraser(feature)
                if own:
                    total = total + own * (self.restorer(paraphrase) - feature).square().mean()
            if weight:
                total = total + weight * ft(self.translator(mine), paraphrase, self.strict_reference)
        return total
