"""Tests of timm models as teachers and students; none needs the network."""

import time

import pytest
import timm
import torch
from huggingface_hub import constants
from timm.models import save_for_hf

from distill.assemble import assemble
from distill.config import ConfigError, compose, resolved
from distill.networks import hub
from distill.networks.timm import timm_model
from distill.outputs import InputSpec
from distill.taps import Tapped


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def make(name, classes=5, channels=3, pretrained=False, size=(32, 32), drop_path=0.0, new_head=False):
    torch.manual_seed(0)
    return timm_model(name, classes, channels, pretrained, size and list(size), drop_path, new_head)


def specs(network, shape):
    spec = network.input_spec or InputSpec((0.5,) * shape[0], (0.25,) * shape[0])
    return {name: spec.shape for name, spec in Tapped(network, spec, network.taps).specs(shape).items()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of 5 classes with weights of its own, as timm saves it."""
    folder = tmp_path_factory.mktemp("saved")
    torch.manual_seed(1)
    network = timm.create_model("resnet10t", num_classes=5)
    save_for_hf(network, folder, model_config={"num_classes": 5})
    return network.eval(), f"local-dir:{folder}"


@pytest.mark.parametrize(
    "name, taps",
    [
        ("resnet10t", ["stem", "stage1", "stage2", "stage3", "stage4", "pooled"]),
        ("mobilenetv3_small_050", ["stem", "stage1", "stage2", "stage3", "stage4", "pooled"]),
        ("convnext_atto", ["stage1", "stage2", "stage3", "stage4", "pooled"]),
        ("densenet121", ["stem", "stage1", "stage2", "stage3", "stage4", "pooled"]),
        ("vgg11", ["stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "pooled"]),
    ],
)
def test_timm_model__taps_are_reached_and_kept(name, taps):
    network = make(name)
    assert list(network.taps) == taps
    assert network.input_spec is None
    shapes = specs(network, (3, 32, 32))
    assert shapes["logits"] == (5,)
    areas = [shapes[t][1] * shapes[t][2] for t in taps[:-1]]
    assert areas == sorted(areas, reverse=True)


def test_timm_model__pooled_is_the_classifiers_input():
    network = make("resnet10t").eval()
    outputs = Tapped(network, InputSpec((0.5,) * 3, (0.25,) * 3), ["pooled"])(torch.rand(2, 3, 32, 32))
    torch.testing.assert_close(network.fc(outputs.features["pooled"]), outputs.logits)


def test_timm_model__random_transformer_is_made_for_the_images():
    network = make("vit_tiny_patch16_224")
    assert network.input_spec is None
    assert network.taps == {
        "stage1": "blocks.2", "stage2": "blocks.5", "stage3": "blocks.8", "stage4": "blocks.11", "pooled": "head:in",
    }  # fmt: skip
    assert specs(network, (3, 32, 32))["stage2"] == (2 * 2 + 1, 192)
    assert network.training


def test_timm_model__images_smaller_than_a_patch_are_resized():
    network = make("vit_tiny_patch16_224", channels=1, size=(8, 8))
    assert network.input_spec == InputSpec((0.5,), (0.5,), (224, 224))
    assert specs(network, (1, 8, 8))["stage4"] == (14 * 14 + 1, 192)


def test_timm_model__channels_last_maps_are_not_published():
    network = make("swin_tiny_patch4_window7_224")
    assert list(network.taps) == ["pooled"]
    assert specs(network, (3, 32, 32))["pooled"] == (768,)


@pytest.mark.slow
def test_timm_model__drop_path():
    assert make("resnet10t", drop_path=0.5).layer4[0].drop_path.drop_prob == 0.5
    assert make("vgg11").num_classes == 5
    with pytest.raises(ValueError, match="drop_path=0.1: 'vgg11' has no stochastic depth; set it to 0"):
        make("vgg11", drop_path=0.1)


def test_timm_model__pretrained_has_its_weights_and_pixels(saved):
    network, name = saved
    found = make(name, pretrained=True)
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(found.eval()(x), network(x), rtol=0, atol=0)
    assert found.input_spec == InputSpec((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (32, 32))
    assert make(name, pretrained=True, size=None).input_spec.size is None


def test_timm_model__pretrained_first_layer_fits_grey_images(saved):
    network, name = saved
    found = make(name, channels=1, pretrained=True, size=(16, 16)).eval()
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(found(x), network(x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)
    mean, std = (0.485 + 0.456 + 0.406) / 3, (0.229 + 0.224 + 0.225) / 3
    assert found.input_spec.mean == pytest.approx((mean,))
    assert found.input_spec.std == pytest.approx((std,))


def test_timm_model__pretrained_for_other_classes(saved):
    network, name = saved
    with pytest.raises(ValueError, match="num_classes=7: .* are for 5 classes; set new_head=true"):
        make(name, classes=7, pretrained=True)
    found = make(name, classes=7, pretrained=True, new_head=True)
    assert found.fc.out_features == 7
    assert torch.equal(found.conv1[0].weight, network.conv1[0].weight)


def test_timm_model__mismatch_is_seen_before_any_download():
    with pytest.raises(ValueError, match="num_classes=5: .* are for 1000 classes"):
        make("resnet18", pretrained=True)


@pytest.mark.parametrize(
    "name, message",
    [
        ("resnet19", "name='resnet19': timm has no such model; near: .*resnet18"),
        ("0", "timm.list_models"),
        ("resnet18.mine", "name='resnet18.mine': timm has no such weights; choose one of .*resnet18.a1_in1k"),
        ("resnet10t_none", "near: .*resnet10t"),
        ("local-dir:nowhere", "the folder has no config.json"),
        ("hf-hub:timm/unknown", "cannot be had from the hub .* local folder"),
        ("resnet10t", "cannot be had from the hub .* pretrained=false"),
    ],
)
def test_timm_model__mistakes_are_one_sentence(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        make(name, classes=1000, pretrained=True)
    assert "\n" not in str(caught.value)
    assert "://" not in str(caught.value)


def test_timm_model__no_weights_exist():
    with pytest.raises(ValueError, match="pretrained=true: timm has no weights of 'convnext_atto_rms'"):
        make("convnext_atto_rms", classes=1000, pretrained=True)


def test_cache_where_unreachable__asks_once(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    with hub.cache_where_unreachable():
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()
    assert time.perf_counter() - start < hub.ANSWER_SECONDS


def test_assemble__teacher_and_student_of_timm(saved):
    overrides = [
        "dataset=synthetic", "dataset.num_classes=5", "student=timm", "student.name=mobilenetv3_small_050",
        "teacher=[timm]", f"teacher.timm.network.name='{saved[1]}'",
    ]  # fmt: skip
    parts = assemble(resolved(compose(overrides)))
    assert torch.equal(parts.teachers["timm"].network.fc.weight, saved[0].fc.weight)
    assert parts.student.size is None


def test_assemble__unknown_name_names_the_key():
    cfg = resolved(compose(["dataset=synthetic", "student=timm", "student.name=resnet19"]))
    with pytest.raises(ConfigError, match="^student: name='resnet19': timm has no such model"):
        assemble(cfg)
