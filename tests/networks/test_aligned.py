"""The aligned student: map and vector of any backbone, text vectors kept with the weights, classes by name, folding."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

from distill import weights
from distill.networks.aligned import Aligned
from distill.networks.cifar.resnet import resnet8
from distill.networks.cifar.shufflenetv2 import shufflenetv2
from distill.networks.cifar.vgg import vgg8
from distill.networks.hf import ImageClassifier
from distill.networks.timm import timm_model
from distill.outputs import Anchors, InputSpec, Words
from distill.taps import Tapped

CLASSES, WIDTH = 5, 16
NAMES = list("abcde")


def by_timm(name: str) -> nn.Module:
    return timm_model(name, CLASSES, 3, False, [32, 32], 0.0, False)


def hf_vit() -> nn.Module:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        num_labels=CLASSES,
    )  # fmt: skip
    return ImageClassifier(ViTForImageClassification(config), None, False)


def hf_resnet() -> nn.Module:
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )  # fmt: skip
    return ImageClassifier(ResNetForImageClassification(config), None, False)


BACKBONES: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "resnet8": (lambda: resnet8(CLASSES, 3), (64, 8, 8)),
    "vgg8": (lambda: vgg8(CLASSES, 3), (512, 4, 4)),
    "shufflenetv2": (lambda: shufflenetv2(CLASSES, 3), (1024, 4, 4)),
    "timm cnn": (lambda: by_timm("test_resnet"), (96, 1, 1)),
    "timm vit": (lambda: by_timm("test_vit"), (64, 2, 2)),
    "timm vit, two tokens before the grid and two classifiers": (
        lambda: by_timm("deit_tiny_distilled_patch16_224"), (192, 2, 2),
    ),
    "hf vit": (hf_vit, (16, 4, 4)),
    "hf resnet": (hf_resnet, (16, 4, 4)),
}  # fmt: skip
each_backbone = pytest.mark.parametrize("make, shape", BACKBONES.values(), ids=BACKBONES)


def anchors(width: int = WIDTH, classes: int = CLASSES, seed: int = 0) -> Anchors:
    return Anchors(normalize(torch.randn(classes, width, generator=torch.Generator().manual_seed(seed)), dim=1), 20.0)


def aligned(network: nn.Module | None = None, anchored: bool = True, **settings: object) -> Aligned:
    found = Aligned(network or resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32], anchored=anchored, **settings).eval()  # type: ignore[arg-type]
    if anchored:
        found.meet(Words(NAMES, (), {"clip": anchors()}))
    return found


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def features(student: Aligned, *taps: str) -> dict[str, Tensor]:
    spec = InputSpec((0.0,) * 3, (1.0,) * 3)
    return Tapped(student, spec, taps).eval()(images()).features


@each_backbone
def test_aligned__map_vector_and_logits_of_any_backbone(
    make: Callable[[], nn.Module], shape: tuple[int, int, int]
) -> None:
    network = make().eval()
    plain = aligned(copy.deepcopy(network), anchored=False)
    assert plain.backbone.shape == shape
    assert torch.equal(plain(images()), network(images()))
    student = aligned(network)
    found = features(student, "dense", "image_embedding")
    assert found["dense"].shape == (2, WIDTH, *shape[1:])
    weight = student.projector.weight.flatten(1)
    maps = student.backbone(images())[1]
    expected = normalize(maps.mean((2, 3)) @ weight.T, dim=1)  # normalize(W GAP(F))
    torch.testing.assert_close(found["image_embedding"], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(student(images()), 20 * expected @ anchors().text.T, rtol=1e-4, atol=1e-4)


@each_backbone
def test_folded__same_logits_without_taps_or_a_classifier_that_is_not_asked(
    make: Callable[[], nn.Module], shape: tuple[int, int, int]
) -> None:
    student = aligned(make())
    folded = student.folded()
    torch.testing.assert_close(folded(images()), student(images()), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, Aligned) for module in folded.modules())
    owned = [m for m in folded.modules() if isinstance(m, nn.Linear) and m.out_features == CLASSES]
    assert [tuple(m.weight.shape) for m in owned] == [(CLASSES, WIDTH)]
    plain = aligned(make(), anchored=False)
    assert torch.equal(plain.folded()(images()), plain(images()))


def test_aligned__takes_the_last_map_without_the_tokens_before_its_grid() -> None:
    network = by_timm("test_vit").eval()
    student = aligned(network, anchored=False)
    tokens = network.forward_features(images())
    expected = tokens[:, 1:].transpose(1, 2).reshape(2, 64, 2, 2)
    assert torch.equal(student.backbone(images())[1], expected)


def test_aligned__any_tap_of_the_network() -> None:
    network = resnet8(CLASSES, 3)
    student = aligned(network, anchored=False, tap="stage1")
    assert student.backbone.shape[1:] == (32, 32)
    found = features(student, "stage1", "final")
    torch.testing.assert_close(found["stage1"], student.backbone(images())[1])


def test_aligned__a_copy_asks_its_own_network() -> None:
    student = aligned()
    other = copy.deepcopy(student)
    with torch.no_grad():
        next(other.backbone.parameters()).zero_()
    expected = aligned()
    expected.load_state_dict(student.state_dict())
    assert torch.equal(student(images()), expected(images()))
    assert not torch.equal(other(images()), student(images()))


def test_backward__reaches_backbone_and_projector_and_no_text() -> None:
    student = aligned().train()
    student(images()).square().sum().backward()
    assert student.projector.weight.grad is not None
    assert all(p.grad is not None for p in student.parameters())
    assert not student.text.requires_grad


def test_meet__text_vectors_are_kept_with_the_weights(tmp_path: Path) -> None:
    student = aligned()
    save_file(student.state_dict(), tmp_path / "student.safetensors")
    again = Aligned(resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32], anchored=True).eval()
    weights.load(again, tmp_path / "student.safetensors")
    again.meet(Words(NAMES))  # no teacher
    assert torch.equal(again(images()), student(images()))
    assert again.anchors is not None
    assert again.anchors.scale == 20.0


def test_meet__no_text_vectors_at_all() -> None:
    student = Aligned(resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32], anchored=True)
    with pytest.raises(ValueError, match=r"there is none that embeds text; .*student\.anchored=false"):
        student.meet(Words(NAMES))
    Aligned(resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32]).meet(Words(NAMES))


def test_meet__another_width_names_both_and_the_fix() -> None:
    student = Aligned(resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32], anchored=True)
    with pytest.raises(ValueError, match=r"width=16 .* 5 of length 24; set student\.width=24"):
        student.meet(Words(NAMES, (), {"clip": anchors(24)}))


def test_meet__of_several_teachers_one_is_named() -> None:
    both = {"a": anchors(), "b": anchors(seed=1)}
    student = Aligned(resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32], anchored=True)
    with pytest.raises(ValueError, match=r"a and b both embed text; name one with student\.anchor"):
        student.meet(Words(NAMES, (), both))
    named = Aligned(resnet8(CLASSES, 3), WIDTH, CLASSES, 3, [32, 32], anchored=True, anchor="b")
    named.meet(Words(NAMES, (), both))
    torch.testing.assert_close(named.text, both["b"].text)
    with pytest.raises(ValueError, match="teacher 'b'.*those that do are a"):
        named.meet(Words(NAMES, (), {"a": both["a"]}))


@pytest.mark.parametrize("anchored", [True, False])
def test_recognise__other_classes_by_their_vectors(anchored: bool) -> None:
    student = aligned(anchored=anchored)
    vectors = 3 * anchors(classes=7, seed=2).text
    student.recognise(vectors, list("stuvwxy"), scale=10.0)
    embedding = features(student, "image_embedding")["image_embedding"]
    torch.testing.assert_close(student(images()), 10 * embedding @ normalize(vectors, dim=1).T)
    assert student.classes == tuple("stuvwxy")
    torch.testing.assert_close(student.folded()(images()), student(images()), rtol=1e-4, atol=1e-4)


def test_recognise__the_scale_of_before_unless_another_is_given() -> None:
    student = aligned()
    student.recognise(anchors(seed=2).text, NAMES)
    assert float(student.scale) == 20.0


@pytest.mark.parametrize("shape, names", [((5, 7), NAMES), ((4, WIDTH), NAMES), ((0, WIDTH), []), ((WIDTH,), ["a"])])
def test_recognise__vectors_that_do_not_fit(shape: tuple[int, ...], names: list[str]) -> None:
    with pytest.raises(ValueError, match="names need vectors of shape"):
        aligned().recognise(torch.zeros(shape), names)


@pytest.mark.parametrize("tap", ["pooled", "fc"])
def test_init__a_tap_without_places(tap: str) -> None:
    network = by_timm("test_resnet")
    with pytest.raises(ValueError, match=f"tap {tap!r} .* no spatial extent"):
        aligned(network, anchored=False, tap=tap)


def test_init__a_network_without_a_map() -> None:
    with pytest.raises(ValueError, match="Sequential makes no map of images of 3x32x32; name one with student.tap"):
        aligned(nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES)), anchored=False)


def test_init__no_classifier_to_take_out() -> None:
    network = nn.Sequential(nn.Conv2d(3, CLASSES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert aligned(copy.deepcopy(network), anchored=False).backbone.tap == "0"
    with pytest.raises(ValueError, match="no linear classifier of 5 classes"):
        aligned(network)
