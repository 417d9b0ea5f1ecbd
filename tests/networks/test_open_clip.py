"""open_clip's models from local folders: the same embeddings, tokens and pixels, and maps by definition."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from distill.networks.open_clip import open_clip
from distill.outputs import InputSpec, Words
from distill.taps import Tapped

from .clips import CLASSES, TEXTS

library = pytest.importorskip("open_clip", reason="pip install 'distill[open_clip]'")
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 16, "layers": 2, "width": 24, "head_width": 8, "patch_size": 4}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}


def saved(folder: Path, vision: dict, **more: object) -> str:
    """Save a model of random weights as open_clip keeps it."""
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "interpolation": "bicubic"}
    config = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": TEXT, **more}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pixels}))
    torch.manual_seed(0)
    model = library.CLIP(**config)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("vit"), VIT)


def met(name: str) -> tuple:
    network = open_clip(name, None, 3, "generic", None).eval()
    network.meet(Words(CLASSES, TEXTS))
    return network, library.create_model(name).eval()


def answered(network, x):
    with torch.no_grad():
        return Tapped(network, InputSpec((0.0,) * 3, (1.0,) * 3), network.taps).eval()(x, torch.tensor([2, 3]))


def test_open_clip__embeddings_logits_and_tokens_are_its_own(vit):
    network, model = met(vit)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = answered(network, x)
    tokenizer = library.get_tokenizer(vit)
    with torch.no_grad():
        image = model.encode_image(x, normalize=True)
        text = model.encode_text(tokenizer([TEXTS[2], TEXTS[3]]), normalize=True)
        names = tokenizer([f"a photo of a {name.replace('_', ' ')}." for name in CLASSES])
        logits = image @ model.encode_text(names, normalize=True).T / 0.07
    torch.testing.assert_close(found.features["image_embedding"], image)
    torch.testing.assert_close(found.features["text_embedding"], text)
    torch.testing.assert_close(found.logits, logits, rtol=1e-4, atol=1e-4)
    assert network.anchors.scale == pytest.approx(1 / 0.07)


def test_open_clip__pixels_are_its_own(vit):
    network, _ = met(vit)
    assert network.input_spec == InputSpec((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (16, 16), "bicubic")
    _, _, preprocess = library.create_model_and_transforms(vit)
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    theirs = preprocess(Image.fromarray(image.permute(1, 2, 0).numpy()))
    torch.testing.assert_close(Tapped(network, network.input_spec).normalize(image[None])[0], theirs)


def test_dense_value__of_a_transformer(vit):
    network, model = met(vit)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    block, kept = model.visual.transformer.resblocks[-1], []
    block.ln_1.register_forward_hook(lambda module, given, out: kept.append(out))
    with torch.no_grad():
        model.encode_image(x)
        weight, bias = (p.chunk(3)[2] for p in (block.attn.in_proj_weight, block.attn.in_proj_bias))
        tokens = model.visual.ln_post(block.attn.out_proj(F.linear(kept[0], weight, bias))) @ model.visual.proj
    found = answered(network, x).features["dense_value"]
    assert found.shape == (2, 12, 4, 4)
    for patch in range(16):
        torch.testing.assert_close(found[:, :, patch // 4, patch % 4], tokens[:, 1 + patch], rtol=1e-4, atol=1e-5)


def test_dense_value__of_an_attention_pool(tmp_path):
    network, model = met(saved(tmp_path, RESNET))
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    kept = []
    model.visual.layer4.register_forward_hook(lambda module, given, out: kept.append(out))
    with torch.no_grad():
        model.encode_image(x)
        pool, maps = model.visual.attnpool, kept[0]
        found = answered(network, x).features["dense_value"]
        assert found.shape == (2, 12, 2, 2)
        for row, column in ((0, 0), (1, 0), (1, 1)):
            place = pool.c_proj(pool.v_proj(maps[:, :, row, column]))
            torch.testing.assert_close(found[:, :, row, column], place, rtol=1e-4, atol=1e-5)


def test_open_clip__a_siglip_has_its_bias(tmp_path):
    name = saved(tmp_path, VIT, init_logit_bias=-10.0, init_logit_scale=math.log(10))
    network, model = met(name)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        names = library.get_tokenizer(name)([f"a photo of a {name.replace('_', ' ')}." for name in CLASSES])
        logits = 10 * model.encode_image(x, normalize=True) @ model.encode_text(names, normalize=True).T - 10
        torch.testing.assert_close(network(x), logits, rtol=1e-4, atol=1e-4)


def test_open_clip__mistakes(vit, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="name='ViT-B-33': open_clip has no such model"):
        open_clip("ViT-B-33", None, 3, "generic", None)
    with pytest.raises(ValueError, match=f"name='local-dir:{tmp_path}' with weights=None: cannot be had") as caught:
        open_clip(f"local-dir:{tmp_path}", None, 3, "generic", None)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="has 25 tokens and this network takes 16"):
        met(vit)[0].encode_classes(["cat " * 18])
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(ValueError, match="open_clip is not installed; pip install 'distill\\[open_clip\\]'"):
        open_clip(vit, None, 3, "generic", None)
