"""CLIP and SigLIP from saved folders: tokens, pixels, embeddings as of transformers, maps by definition."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from transformers import AutoImageProcessor, AutoTokenizer, BertConfig

from distill.networks import dense
from distill.networks.clip import clip
from distill.networks.pieces import TextReader
from distill.outputs import InputSpec, Words
from distill.taps import Tapped

from .clips import CLASSES, TEXTS, byte_pairs, saved_clip, saved_siglip

WORDS = Words(CLASSES, TEXTS)
STRINGS = [
    "a photo of a cat.", "It's  two CATS, isn't it?", "naïve café — 3,141 dogs & a façade", "fish 🐟", "x" * 40,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def sig(tmp_path_factory):
    return saved_siglip(tmp_path_factory.mktemp("siglip"))


def met(name, templates="generic", image_size=None):
    network = clip(name, 3, templates, image_size).eval()
    network.meet(WORDS)
    return network


def pixels(size=16, seed=1):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def taps(network, x, *names, rows=None):
    tapped = Tapped(network, InputSpec((0.0,) * 3, (1.0,) * 3), names or network.taps).eval()
    with torch.no_grad():
        return tapped(x, torch.tensor([0, 3]) if rows is None else rows)


@pytest.mark.slow
def test_tokens__are_those_of_transformers_and_of_open_clip():
    open_clip = pytest.importorskip("open_clip", reason="pip install 'distill[open_clip]'")
    tokenizer = byte_pairs()
    found = TextReader(tokenizer, 77, full=False).tokenize(STRINGS)
    own = tokenizer(STRINGS, padding=True, return_tensors="pt")
    assert torch.equal(found.ids, own["input_ids"])
    assert torch.equal(found.mask, own["attention_mask"].bool())
    theirs = open_clip.tokenize(STRINGS)
    assert all(torch.equal(ids[mask], row[: mask.sum()]) for ids, mask, row in zip(*found[:2], theirs, strict=True))


def test_pixels__are_those_of_the_image_processor(saved):
    network = met(saved[1])
    tapped = Tapped(network, network.input_spec)
    processor = AutoImageProcessor.from_pretrained(saved[1])
    grid = torch.linspace(0, 1, 64)
    wave = torch.stack([torch.sin(3 * grid[:, None] + k * grid) for k in range(3)])
    images = ((0.5 + 0.4 * wave) * 255).round().to(torch.uint8)[None]
    for image in (torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8), images):
        own = processor(images=list(image), return_tensors="pt")["pixel_values"]
        resized = image.shape[-1] != 16
        # where it resizes, the processor computes in whole levels
        level = 1 / 255 / 0.4 if resized else 1e-6
        torch.testing.assert_close(tapped.normalize(image), own, rtol=0, atol=level)
    assert network.input_spec.mode == "bicubic"


def test_embeddings__are_those_of_transformers(saved):
    model, name = saved
    x = pixels()
    found = taps(met(name), x, "image_embedding", "text_embedding", "scale")
    inputs = AutoTokenizer.from_pretrained(name)([TEXTS[0], TEXTS[3]], padding=True, return_tensors="pt")
    with torch.no_grad():
        own = model(pixel_values=x, **inputs)
    torch.testing.assert_close(found.features["image_embedding"], own.image_embeds, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.features["text_embedding"], own.text_embeds, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.features["scale"], torch.full((2,), math.exp(3.0)))


def test_logits__are_scaled_cosines_with_the_mean_over_templates(saved):
    model, name = saved
    network = met(name, ["a photo of a {}.", "the {}"])
    tokenizer = AutoTokenizer.from_pretrained(name)
    vectors = []
    for word in ("red circle", "blue square", "cat"):
        inputs = tokenizer([f"a photo of a {word}.", f"the {word}"], padding=True, return_tensors="pt")
        with torch.no_grad():
            each = F.normalize(model.get_text_features(**inputs).pooler_output.double(), dim=1)
        vectors.append(F.normalize(each.mean(0), dim=0))
    x = pixels()
    with torch.no_grad():
        image = F.normalize(model.get_image_features(pixel_values=x).pooler_output.double(), dim=1)
        logits = network(x, torch.tensor([0, 0]))
    expected = math.exp(3.0) * image @ torch.stack(vectors).T
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network.anchors.text.double(), torch.stack(vectors), rtol=1e-5, atol=1e-6)
    assert network.anchors.scale == pytest.approx(math.exp(3.0))


def test_siglip__logits_have_its_bias_and_texts_are_filled_up(sig):
    model, name = sig
    network = met(name)
    inputs = AutoTokenizer.from_pretrained(name)(
        [f"a photo of a {word}." for word in ("red circle", "blue square", "cat")], padding="max_length", max_length=9,
        return_tensors="pt",
    )  # fmt: skip
    x = pixels()
    with torch.no_grad():
        own = model(pixel_values=x, input_ids=inputs["input_ids"]).logits_per_image
        torch.testing.assert_close(network(x), own, rtol=1e-5, atol=1e-5)


def hooked(model, x, path):
    """Return what a module of the tower got and gave."""
    kept = []
    handle = model.get_submodule(path).register_forward_hook(lambda m, args, out: kept.append((args, out)))
    with torch.no_grad():
        seen = model.vision_model(pixel_values=x, output_attentions=True)
    handle.remove()
    return kept[0], seen


def test_dense_value__is_what_a_hook_on_v_proj_sees(saved):
    model, name = saved
    x = pixels()
    (_, values), _ = hooked(model, x, "vision_model.encoder.layers.1.self_attn.v_proj")
    with torch.no_grad():
        h = model.vision_model.encoder.layers[1].self_attn.out_proj(values)
        tokens = model.visual_projection(model.vision_model.post_layernorm(h))[:, 1:]
    expected = tokens.transpose(1, 2).reshape(2, 12, 4, 4)
    torch.testing.assert_close(taps(met(name), x).features["dense_value"], expected, rtol=1e-5, atol=1e-6)


def test_dense__other_sources_by_naive_loops(saved):
    model, name = saved
    x = pixels()
    vision, block = model.vision_model, model.vision_model.encoder.layers[1]
    (args, _), seen = hooked(model, x, "vision_model.encoder.layers.1.layer_norm1")
    (_, values), _ = hooked(model, x, "vision_model.encoder.layers.1.self_attn.v_proj")
    inputs, heads, size = args[0], 3, 8
    mixed = torch.zeros_like(values)
    for n in range(2):
        for head in range(heads):
            part = values[n, :, head * size : (head + 1) * size]
            mixed[n, :, head * size : (head + 1) * size] = torch.softmax(part @ part.T / math.sqrt(size), 1) @ part
    with torch.no_grad():
        residual = inputs + block.self_attn.out_proj(values)
        residual = residual + block.mlp(block.layer_norm2(residual))
        expected = {
            "dense_vv": block.self_attn.out_proj(mixed),
            "dense_value_residual": residual,
            "dense_last_hidden": seen.last_hidden_state,
        }
        found = taps(met(name), x).features
        for key, h in expected.items():
            tokens = model.visual_projection(vision.post_layernorm(h))
            for patch in range(16):
                place = found[key][:, :, patch // 4, patch % 4]
                torch.testing.assert_close(place, tokens[:, 1 + patch], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found["attention"], seen.attentions[-1], rtol=1e-5, atol=1e-6)
    assert found["attention"].shape == (2, 3, 17, 17)


def test_siglip__a_map_is_what_its_pool_makes_of_each_patch_alone(sig):
    model, name = sig
    x = pixels()
    found = taps(met(name), x)
    assert {name for name in found.features if name.startswith("dense")} == {"dense_value", "dense_vv"}
    with torch.no_grad():
        tokens = model.vision_model(pixel_values=x).last_hidden_state
        for patch in range(16):
            alone = model.vision_model.head(tokens[:, patch : patch + 1])
            place = found.features["dense_value"][:, :, patch // 4, patch % 4]
            torch.testing.assert_close(place, alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no tap 'dense_value_residual' in CLIP; nearest: dense_value"):
        taps(met(name), x, "dense_value_residual")


def test_siglip__v_v_map_of_one_patch_is_its_value(sig):
    network = met(sig[1])
    x = pixels()[:, :, :4, :4]
    found = taps(network, x).features
    torch.testing.assert_close(found["dense_vv"], found["dense_value"])


def test_see__other_sizes_have_other_grids(saved):
    network = met(saved[1], image_size=24)
    assert network.input_spec.size == (24, 24)
    found = taps(network, pixels(24), "dense_value", "attention").features
    assert found["dense_value"].shape == (2, 12, 6, 6)
    assert found["attention"].shape == (2, 3, 37, 37)
    wide = taps(network, torch.rand(2, 3, 16, 32), "dense_vv").features["dense_vv"]
    assert wide.shape == (2, 12, 4, 8)


def test_see__maps_are_computed_only_when_read(saved, monkeypatch):
    network = met(saved[1])
    monkeypatch.setattr(dense, "SOURCES", {})
    assert taps(network, pixels(), "image_embedding").features["image_embedding"].shape == (2, 12)
    with pytest.raises(KeyError):
        taps(network, pixels(), "dense_value")


def test_attention__an_empty_tuple_is_refused(saved):
    network = met(saved[1])
    network.model.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="attention: the image tower gave none; load the model with") as caught:
        taps(network, pixels(), "attention")
    assert "\n" not in str(caught.value)


def test_text_embedding__without_captions(saved):
    network = clip(saved[1], 3, "generic", None).eval()
    network.meet(Words(CLASSES))
    assert network(pixels()).shape == (2, 3)
    with pytest.raises(ValueError, match="text_embedding is read and the dataset has no captions"):
        taps(network, pixels(), "text_embedding")


def test_meet__a_prompt_that_is_too_long(saved):
    network = clip(saved[1], 1, "generic", None)
    with pytest.raises(ValueError, match="'a photo of a cat cat cat cat.' has 10 tokens and this network takes 9"):
        network.meet(Words(["cat cat cat cat"]))
    with pytest.raises(ValueError, match="they have no names, by which an image-text network knows them"):
        network.meet(Words(["0", "1"]))


def test_clip__mistakes(saved, tmp_path):
    with pytest.raises(ValueError, match="image_size=3: is below one patch of 4 pixels"):
        clip(saved[1], 3, "generic", 3)
    with pytest.raises(ValueError, match="lacks a config.json"):
        clip(str(tmp_path), 3, "generic", None)
    BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' model; choose a CLIP or a SigLIP"):
        clip(str(tmp_path), 3, "generic", None)


@pytest.mark.parametrize("missing, message", [
    ("preprocessor_config.json", "there is no preprocessor_config.json"),
    ("model.safetensors", "lacks a config.json or model.safetensors"),
    ("tokenizer.json", "there is no tokenizer that can be read"),
])  # fmt: skip
def test_clip__a_file_is_missing(saved, tmp_path, missing, message):
    for path in Path(saved[1]).iterdir():
        if path.name != missing:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ValueError, match=message) as caught:
        clip(str(tmp_path), 3, "generic", None)
    assert "\n" not in str(caught.value)
