"""Tests of transformers' image classifiers as teachers and students, from tiny models saved to a local folder."""

import json
import time

import pytest
import torch
from huggingface_hub import constants
from transformers import (
    BertConfig,
    ConvNextConfig,
    ConvNextImageProcessor,
    MobileViTImageProcessor,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from distill.assemble import assemble
from distill.config import compose, resolved
from distill.networks import hf
from distill.networks.hf import image_classifier
from distill.outputs import InputSpec
from distill.taps import Tapped

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
VIT = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 16, "patch_size": 4}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A transformer of 5 classes with weights and image processor."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(1)
    model = ViTForImageClassification(ViTConfig(**VIT, num_hidden_layers=8, num_labels=5))
    model.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    ViTImageProcessor(image_mean=MEAN, image_std=STD, size=size).save_pretrained(folder)
    return model.eval(), str(folder)


def specs(network, shape):
    spec = network.input_spec or InputSpec((0.5,) * 3, (0.25,) * 3)
    return {name: spec.shape for name, spec in Tapped(network, spec, network.taps).specs(shape).items()}


def test_image_classifier__pretrained_has_its_weights_and_pixels(saved):
    model, name = saved
    network = image_classifier(name, 5, True, False)
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(network.eval()(x), model(pixel_values=x).logits, rtol=0, atol=0)
    assert network.input_spec == InputSpec(MEAN, STD, (16, 16))


def test_image_classifier__taps(saved):
    network = image_classifier(saved[1], 5, True, False)
    assert list(network.taps) == ["stage1", "stage2", "stage3", "stage4", "pooled"]
    shapes = specs(network, (3, 32, 32))  # resized to 16x16: 4x4 patches and a class token
    assert shapes == {"logits": (5,), **{f"stage{i}": (17, 16) for i in range(1, 5)}, "pooled": (16,)}
    outputs = Tapped(network.eval(), network.input_spec, ["pooled"])(torch.rand(2, 3, 16, 16))
    torch.testing.assert_close(network.model.classifier(outputs.features["pooled"]), outputs.logits)


def test_image_classifier__grey_images_are_repeated(saved):
    network = image_classifier(saved[1], 5, True, False).eval()
    tapped = Tapped(network, network.input_spec)
    x = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(tapped(x).logits, tapped(x.expand(-1, 3, -1, -1)).logits)


def test_image_classifier__random_weights_in_the_shape_of_its_config(tmp_path):
    ViTConfig(**VIT, num_hidden_layers=3).save_pretrained(tmp_path)
    network = image_classifier(str(tmp_path), 7, False, False)
    assert network.input_spec == InputSpec(hf.HALF, hf.HALF, (16, 16))
    assert specs(network, (3, 8, 8))["logits"] == (7,)
    assert list(network.taps) == ["stage1", "stage2", "stage3", "pooled"]


def test_image_classifier__convolutional(tmp_path):
    ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1]).save_pretrained(tmp_path)
    network = image_classifier(str(tmp_path), 7, False, False)
    assert network.input_spec is None
    shapes = specs(network, (3, 32, 32))
    assert shapes["stage4"] == (16, 1, 1)
    assert shapes["pooled"] == (16,)


def test_image_classifier__pretrained_for_other_classes(saved):
    model, name = saved
    with pytest.raises(ValueError, match="num_classes=7: .* are for 5 classes; set new_head=true"):
        image_classifier(name, 7, True, False)
    network = image_classifier(name, 7, True, True)
    assert network.model.classifier.out_features == 7
    assert torch.equal(network.model.vit.layernorm.weight, model.vit.layernorm.weight)
    assert torch.equal(network.model.vit.layers[0].mlp.fc1.weight, model.vit.layers[0].mlp.fc1.weight)


def test_image_classifier__weights_without_classifier(saved, tmp_path):
    model, _ = saved
    model.vit.save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="have no classifier.bias; set new_head=true"):
        image_classifier(str(tmp_path), 5, True, False)
    network = image_classifier(str(tmp_path), 5, True, True)
    assert torch.equal(network.model.vit.layernorm.weight, model.vit.layernorm.weight)


def test_image_classifier__is_float32_whatever_was_saved(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
    ResNetForImageClassification(config).half().save_pretrained(tmp_path)
    ConvNextImageProcessor(size={"shortest_edge": 224}).save_pretrained(tmp_path)
    network = image_classifier(str(tmp_path), 5, True, False)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert network.input_spec.size == (224, 224)


@pytest.mark.parametrize(
    "processor, size",
    [
        (ViTImageProcessor(size={"height": 20, "width": 24}), (20, 24)),
        (ConvNextImageProcessor(size={"shortest_edge": 224}), (224, 224)),
        (ViTImageProcessor(do_resize=False), None),
        (
            MobileViTImageProcessor(size={"shortest_edge": 288}, do_center_crop=True, crop_size=[256, 240]),
            (256, 240),
        ),
    ],
)
def test_pixels__sizes_of_processors(processor, size):
    assert hf.pixels(ConvNextConfig(), processor)[0].size == size


def test_pixels__blue_first_and_unnormalised(saved, tmp_path):
    model, _ = saved
    model.save_pretrained(tmp_path)
    MobileViTImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    network = image_classifier(str(tmp_path), 5, True, False).eval()
    assert network.input_spec == InputSpec((0.0,) * 3, (1.0,) * 3, (16, 16))
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(network(x), model(pixel_values=x[:, [2, 1, 0]]).logits)


def folder(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(content))
    return str(tmp_path)


@pytest.mark.parametrize(
    "content, message",
    [
        (BertConfig(num_hidden_layers=1).to_dict(), "'bert' does not classify images"),
        ({"auto_map": {"AutoConfig": "own.Own"}, "model_type": "own"}, "names no model that transformers has itself"),
        ({}, "names no model that transformers has itself"),
        (ViTConfig(**VIT).to_dict(), "there is no preprocessor_config.json"),
    ],
)
def test_image_classifier__folders_that_will_not_do(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        image_classifier(folder(tmp_path, content), 2, True, False)
    assert "\n" not in str(caught.value)


def test_image_classifier__pickled_weights_are_not_read(saved, tmp_path):
    model, _ = saved
    model.config.save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="lacks a config.json or model.safetensors that can be read"):
        image_classifier(str(tmp_path), 5, True, False)


def test_image_classifier__truncated_weights(saved, tmp_path):
    model, _ = saved
    model.save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="model.safetensors that can be read"):
        image_classifier(str(tmp_path), 5, True, False)


def test_image_classifier__empty_folder(tmp_path):
    with pytest.raises(ValueError, match="lacks a config.json"):
        image_classifier(str(tmp_path), 5, False, False)


@pytest.mark.parametrize("name", ["someone/unknown", "no/such/folder", "/no/such/folder"])
def test_image_classifier__hub_without_answer_is_one_sentence(monkeypatch, name):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    start = time.perf_counter()
    with pytest.raises(ValueError, match=f"name='{name}': .* cannot be had from the hub .* local folder") as caught:
        image_classifier(name, 5, True, False)
    assert time.perf_counter() - start < 10
    assert "\n" not in str(caught.value)
    assert "://" not in str(caught.value)


def test_assemble__teacher_and_student_of_transformers(saved):
    overrides = [
        "dataset=synthetic", "dataset.num_classes=5", "student=hf", f"student.name={saved[1]}",
        "teacher=[hf]", f"teacher.hf.network.name={saved[1]}",
    ]  # fmt: skip
    parts = assemble(resolved(compose(overrides)))
    teacher, student = parts.teachers["hf"].network.model.classifier, parts.student.network.model.classifier
    assert torch.equal(teacher.weight, saved[0].classifier.weight)
    assert not torch.equal(student.weight, saved[0].classifier.weight)
