"""A small CLIP from scratch: its vocabulary, its files in transformers' format, what evaluation does to its classes."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from distill import weights
from distill.networks.clip import clip
from distill.networks.clip_small import clip_small
from distill.networks.pieces import SentenceReader
from distill.outputs import InputSpec, Words
from distill.taps import Tapped

from .clips import CLASSES, TEXTS

SPEC = InputSpec((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
WORDS = Words(CLASSES, TEXTS)


def small(**changed):
    torch.manual_seed(0)
    sizes = {
        "num_classes": 3, "image_size": [16, 16], "channels": 3, "patch": 4, "width": 12, "depth": 2, "heads": 2,
        "text_width": 8, "text_depth": 1, "text_heads": 2, "vocabulary": 40, "length": 10, "dim": 6, "scale": 10.0,
        "templates": "generic",
    }  # fmt: skip
    return clip_small(**{**sizes, **changed})


def answers(network, spec=SPEC):
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return Tapped(network, spec, network.taps).eval()(images, torch.tensor([1, 3]))


def test_sentence_reader__a_last_token_of_the_highest_row():
    reader = SentenceReader(12, 4)
    reader.learn(["a cat", "b"])
    ids, mask, words = reader.tokenize(["b a cat", "dog"])
    assert ids.tolist() == [[3, 2, 4, 12], [1, 12, 0, 0]]
    assert mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert words.tolist() == [[0, 1, 2, -1], [0, -1, -1, -1]]
    with pytest.raises(ValueError, match="has 5 tokens and this network takes 4"):
        reader.tokenize(["a a a a a"])


def test_save_transformers__loads_with_equal_outputs(tmp_path):
    network = small()
    network.meet(WORDS)
    network.save_transformers(tmp_path, SPEC)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"}
    again = clip(str(tmp_path), 3, "generic", None)
    again.meet(WORDS)
    assert again.input_spec == InputSpec(SPEC.mean, SPEC.std, (16, 16))
    mine, other = answers(network), answers(again, again.input_spec)
    torch.testing.assert_close(other.logits, mine.logits, rtol=0, atol=0)
    for name, value in mine.features.items():
        torch.testing.assert_close(other.features[name], value, rtol=0, atol=0)


def test_save_transformers__without_this_project(tmp_path):
    network = small()
    network.meet(WORDS)
    network.save_transformers(tmp_path, SPEC)
    model = AutoModel.from_pretrained(tmp_path).eval()
    image = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    pixels = AutoImageProcessor.from_pretrained(tmp_path)(images=[image], return_tensors="pt")
    prompts = [f"a photo of a {name.replace('_', ' ')}." for name in CLASSES]
    tokens = AutoTokenizer.from_pretrained(tmp_path)(prompts, padding=True, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        theirs = model(**tokens, **pixels).logits_per_image
        mine = Tapped(network, SPEC).eval()(image[None]).logits
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_weights__bring_their_words_and_classes(tmp_path):
    network = small()
    network.meet(WORDS)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    other = small(num_classes=7)
    weights.load(other, tmp_path / "w.safetensors")
    assert other.reader.known == network.reader.known
    assert torch.equal(other.class_vectors, network.class_vectors)
    other.meet(Words(["red square", "cat"]))
    assert other.anchors.text.shape == (2, 6)
    torch.testing.assert_close(other.anchors.text[1], network.anchors.text[2])


def test_weights__of_another_width_do_not_fit(tmp_path):
    save_file(small(dim=8).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not fit CLIP"):
        weights.load(small(), tmp_path / "w.safetensors")


def test_train__classes_are_those_of_the_last_evaluation():
    network = small()
    network.meet(WORDS)
    before = network.anchors.text.clone()
    with torch.no_grad():
        network.model.text_projection.weight.normal_()
        network.model.logit_scale.fill_(1.0)
    assert torch.equal(network.anchors.text, before)
    network.train().eval()
    torch.testing.assert_close(network.anchors.text, network.encode_classes(CLASSES))
    assert not torch.allclose(network.anchors.text, before)
    assert network.anchors.scale == pytest.approx(torch.tensor(1.0).exp().item())


def test_train__an_evaluation_under_inference_mode_leaves_it_trainable():
    network = small()
    network.meet(WORDS)
    network.train()
    with torch.inference_mode():
        network.eval()
    logits = network.train()(torch.rand(2, 3, 16, 16), torch.tensor([0, 1]))
    logits.sum().backward()
    assert network.model.visual_projection.weight.grad.abs().sum() > 0
    assert network.model.text_projection.weight.grad is None


def test_scale__is_kept_at_a_hundred_in_training():
    network = small()
    network.meet(WORDS)
    with torch.no_grad():
        network.model.logit_scale.fill_(7.0)
    network.train()(torch.rand(1, 3, 16, 16))
    assert network.model.logit_scale.exp().item() == pytest.approx(100)


def test_bf16__logits_stay_close():
    network = small(scale=100.0)
    network.meet(WORDS)
    full = answers(network).logits
    low = Tapped(network, SPEC).eval().to(dtype=torch.bfloat16)
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = low(images).logits
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, full, rtol=0, atol=3.0)  # of 200: cosines to 1.5 %


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"patch": 5}, "patch must divide the sides of square images, got 5 for 16x16"),
        ({"image_size": [16, 20]}, "got 4 for 16x20"),
        ({"heads": 5}, "width must be a multiple of its 5 heads, got 12"),
        ({"text_heads": 3}, "text_width must be a multiple of its 3 heads, got 8"),
        ({"scale": 0.0}, "scale must be above 0, got 0"),
        ({"vocabulary": 2}, "vocabulary=2: must be at least 3"),
    ],
)
def test_clip_small__mistakes(changed, message):
    with pytest.raises(ValueError, match=message):
        small(**changed)


def test_meet__a_vocabulary_that_is_too_small():
    with pytest.raises(ValueError, match="vocabulary=5: the texts have 13 words; give at least 15"):
        small(vocabulary=5).meet(WORDS)
