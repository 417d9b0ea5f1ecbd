"""A small ViT: tokens for its patches, taps, and what it refuses."""

import pytest
import torch

from distill.networks.vit import vit
from distill.outputs import InputSpec
from distill.taps import Tapped


def test_vit__taps_and_grid() -> None:
    network = vit(10, 3, (12, 8), patch=4, width=24, depth=3, heads=2)
    specs = Tapped(network, InputSpec((0.5,) * 3, (0.5,) * 3), ["stage1", "stage3", "pooled"]).specs((3, 12, 8))
    assert specs["logits"].shape == (10,)
    assert specs["stage3"].shape == (1 + 3 * 2, 24)
    assert specs["stage3"].grid == (3, 2)
    assert specs["pooled"].shape == (24,)


def test_vit__parameters_of_vit_tiny() -> None:
    network = vit(1000, 3, (224, 224), patch=16, width=192, depth=12, heads=3)
    assert sum(p.numel() for p in network.parameters()) == 5_717_416  # DeiT-Ti, Touvron et al. 2021: 5 M


def test_vit__mistakes() -> None:
    with pytest.raises(ValueError, match="patch=5: must divide the image's height and width, 32 and 32"):
        vit(10, 3, (32, 32), patch=5, width=24, depth=1, heads=2)
    with pytest.raises(ValueError, match="heads=5: must divide width=24"):
        vit(10, 3, (32, 32), patch=4, width=24, depth=1, heads=5)


def test_vit__trains() -> None:
    network = vit(10, 1, (8, 8), patch=4, width=16, depth=1, heads=2)
    network(torch.randn(2, 1, 8, 8)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
