"""Folding batch normalisation changes what a network says by rounding only, and nothing that is tapped."""

import copy

import pytest
import torch
from torch import nn

from distill.config import build, compose, resolved
from distill.folding import fold
from distill.networks.digits import digits_cnn
from distill.outputs import InputSpec
from distill.taps import Tapped, published

NETWORKS = ["resnet20", "resnet8x4", "resnet50", "wrn_16_1", "vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2"]


def settled(network: nn.Module) -> nn.Module:
    """Return the network in eval mode with statistics that are no identity."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator).mul_(0.1)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(generator=generator).mul_(0.1)
    return network.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_fold__logits_and_every_published_tap_stay(name: str) -> None:
    torch.manual_seed(0)
    network = settled(build(resolved(compose([f"student={name}", "dataset=cifar100"]))["student"], "student"))
    taps = list(published(network).values())
    before, after = network, copy.deepcopy(network)
    gone = fold(after, taps)
    spec = InputSpec((0.5,) * 3, (0.25,) * 3)
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = Tapped(before, spec, taps)(x), Tapped(after, spec, taps)(x)
    if not name.startswith("wrn"):  # there the sum comes before the normalisation in all but one place a block
        norms = sum(isinstance(m, nn.BatchNorm2d) for m in before.modules())
        assert len(gone) > norms // 2
    for a, b in [(expected.logits, found.logits), *((expected.features[t], found.features[t]) for t in taps)]:
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * a.abs().max().item())


def test_fold__leaves_what_a_tap_reads_between_the_two() -> None:
    def made() -> nn.Module:
        torch.manual_seed(0)
        return settled(digits_cnn(4, 10))

    plain, paths = made(), [name for name, m in made().named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    assert len(fold(made())) == 2
    x = torch.rand(2, 1, 8, 8)
    spec = InputSpec((0.0,), (1.0,))
    for tap in [*paths, *(f"{path}:in" for path in paths)]:
        folded = made()
        fold(folded, [tap])
        expected, found = Tapped(plain, spec, [tap])(x), Tapped(folded, spec, [tap])(x)
        assert torch.allclose(expected.features[tap], found.features[tap], atol=1e-5), tap
        assert torch.allclose(expected.logits, found.logits, atol=1e-5), tap


class Shared(nn.Module):
    def __init__(self, twice: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.twice = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), twice

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + (self.norm(self.conv(y)) if self.twice else y)


class Branching(Shared):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) if float(x.sum()) > 0 else x


@pytest.mark.parametrize("network", [Shared(True), Shared(False), Branching(False)])
def test_fold__leaves_alone_what_it_must(network: nn.Module) -> None:
    assert fold(network.eval()) == []
    assert isinstance(network.norm, nn.BatchNorm2d)
