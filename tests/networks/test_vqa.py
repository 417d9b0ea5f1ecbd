"""Networks that answer questions: what their taps say, padding, towers, weights, mistakes."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from distill.assemble import make_network
from distill.config import ConfigError, compose, resolved
from distill.folding import fold
from distill.networks.cifar.resnet import resnet8
from distill.networks.towers import GRU, MapOf, PlainCNN, Pretrained, Transformer
from distill.networks.vqa import VQA
from distill.outputs import InputSpec, Outputs, Words
from distill.taps import Tapped

TEXTS = ("what color is the circle?", "is it red?")
SHORT = "is it red?"


def make(image: nn.Module | None = None, text: nn.Module | None = None, **given: int) -> VQA:
    torch.manual_seed(0)
    image = PlainCNN(4, 2) if image is None else image
    text = GRU(6, 32, 12) if text is None else text
    settings = {"width": 8, "heads": 2, "blocks": 1, "hidden": 10, "num_classes": 5} | given
    return VQA(image, text, **settings)


def met(network: VQA, *texts: str) -> VQA:
    network.meet(Words((), texts or TEXTS))
    return network.eval()


def ask(network: VQA, rows: list[int]) -> Outputs:
    pixels = torch.rand(len(rows), 3, 16, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = Tapped(network, InputSpec((0.5,) * 3, (0.5,) * 3), VQA.taps)(pixels, torch.tensor(rows))
    return Outputs(found.logits, dict(found.features))  # the next pass through the network fills what this one gave


def node(*overrides: str) -> dict:
    return resolved(compose(["dataset=synthetic", "dataset.image_size=[64,64]", *overrides]))["student"]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


TOWERS = {"gru": lambda: GRU(6, 32, 12), "transformer": lambda: Transformer(8, 32, 12, 2, 2)}


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("tower", TOWERS)
def test_taps__attention_is_a_distribution(tower: str, blocks: int) -> None:
    found = ask(met(make(text=TOWERS[tower](), blocks=blocks)), [0, 1, 1]).features
    assert {k: tuple(v.shape[1:]) for k, v in found.items()} == {
        "map": (16, 4, 6), "attention": (2, 4, 6), "pointer": (2, 4, 6), "attention_tokens": (2, 6, 4, 6),
        "attention_i2t": (2, 4, 6, 6), "words": (6,), "fused": (16,), "pooled": (10,),
    }  # fmt: skip
    one = torch.ones(3, 2)
    torch.testing.assert_close(found["attention"].sum((2, 3)), one)
    torch.testing.assert_close(found["attention_tokens"].sum((3, 4)), one[..., None].expand(3, 2, 6))
    torch.testing.assert_close(found["attention_i2t"].sum(4), one[..., None, None].expand(3, 2, 4, 6))
    assert found["words"].tolist() == [[0, 1, 2, 3, 4, 5], *[[0, 1, 2, 3, -1, -1]] * 2]
    assert (found["attention_i2t"][1:, ..., 4:] == 0).all()


@pytest.mark.parametrize("tower", TOWERS)
def test_forward__a_longer_question_of_another_sample_changes_nothing(tower: str) -> None:
    network = make(text=TOWERS[tower]())
    network.text.reader.learn(TEXTS)
    alone = ask(met(network, SHORT), [0, 0])
    beside = ask(met(network, *TEXTS), [1, 1])
    torch.testing.assert_close(alone.logits, beside.logits)
    torch.testing.assert_close(alone.features["attention"], beside.features["attention"])
    torch.testing.assert_close(alone.features["attention_i2t"], beside.features["attention_i2t"][..., :4])


def test_forward__question_attention_is_what_the_answer_is_made_of() -> None:
    """With one word the attention of the question is that of the word."""
    network = met(make(), "red", "what color")
    found = ask(network, [0]).features
    torch.testing.assert_close(found["attention"], found["attention_tokens"][:, :, 0])
    both = ask(network, [1]).features
    low, high = both["attention_tokens"][:, :, :2].aminmax(dim=2)
    assert ((both["attention"] >= low - 1e-6) & (both["attention"] <= high + 1e-6)).all()


def test_forward__a_moved_object_moves_the_attention() -> None:
    network = met(make(image=PlainCNN(4, 2)))
    dark = torch.zeros(2, 3, 16, 24)
    dark[0, :, 4:8, 4:8] = 1
    dark[1, :, 4:8, 12:16] = 1
    with torch.no_grad():
        one, other = Tapped(network, InputSpec((0.5,) * 3, (0.5,) * 3), ["attention"])(dark, None).features["attention"]
    assert not torch.allclose(one, other, atol=1e-5)


def test_forward__an_empty_question_is_finite() -> None:
    network = met(make(), "", "is it red?")
    found = ask(network, [0, 1])
    assert all(v.isfinite().all() for v in (found.logits, *found.features.values()))


def test_backward__reaches_every_parameter_but_that_of_the_first_word_row() -> None:
    network = met(make(blocks=2)).train()
    network(torch.rand(2, 3, 16, 16), torch.tensor([0, 1])).square().sum().backward()
    none = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    # a constant in every key moves all scores of a row alike
    assert [name for name in none if not name.endswith("key.bias")] == []


def test_fold__keeps_the_answer() -> None:
    network = met(make())
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    folded = copy.deepcopy(network)
    assert len(fold(folded, ["attention"])) == 4
    before, after = ask(network, [0, 1]), ask(folded, [0, 1])
    torch.testing.assert_close(after.logits, before.logits)
    torch.testing.assert_close(after.features["attention"], before.features["attention"])


def test_state__words_come_with_the_weights(tmp_path: Path) -> None:
    network = met(make())
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    other = make()
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    torch.testing.assert_close(ask(met(other, "red?", *TEXTS), [1, 2]).logits, ask(network, [0, 1]).logits)


def test_configs__the_student_has_a_fifth_of_the_parameters_at_most() -> None:
    teacher, small = (make_network(node(f"student={name}"), "student", None) for name in ("vqa", "vqa_small"))
    assert 130_000 < parameters(teacher) < 3_000_000
    assert parameters(small) <= 0.2 * parameters(teacher)


@pytest.mark.parametrize("halvings, grid", [(3, 8), (4, 4)])
def test_configs__grid(halvings: int, grid: int) -> None:
    network = make_network(node("student=vqa_small", f"student.image.halvings={halvings}"), "student", None)
    specs = Tapped(met(network), InputSpec((0.5,) * 3, (0.5,) * 3), ["attention"]).specs((3, 64, 64))
    assert specs["attention"].shape == (2, grid, grid)


def test_configs__other_towers() -> None:
    towers = ["tower/image@student.image=map_of", "student@student.image.network=resnet14"]
    network = make_network(node("student=vqa", *towers, "tower/text@student.text=transformer"), "student", None)
    assert network.image.width == 64
    assert isinstance(network.text, Transformer)


# -- towers -----------------------------------------------------------------------------------------------------------


def test_map_of__is_the_tap_and_leaves_the_classifier_out() -> None:
    torch.manual_seed(0)
    inner = resnet8(10, 3)
    pixels = torch.rand(2, 3, 32, 32)
    expected = Tapped(inner.eval(), InputSpec((0.0,) * 3, (1.0,) * 3), ["final"])(pixels).features["final"]
    before = parameters(inner)
    tower = MapOf(inner, "final", [32, 32]).eval()
    torch.testing.assert_close(tower(pixels), expected)
    assert before - parameters(tower) == 64 * 10 + 10
    assert tower.width == 64
    met(make(image=tower))(pixels, torch.tensor([0, 1])).sum().backward()
    assert all(p.grad is not None for p in tower.parameters())


def test_map_of__mistakes() -> None:
    with pytest.raises(ValueError, match="tap='pooled' of ResNet has shape .* without height and width"):
        MapOf(resnet8(10, 3), "pooled", [32, 32])
    with pytest.raises(ValueError, match="no tap 'stage9' in ResNet; nearest"):
        MapOf(resnet8(10, 3), "stage9", [32, 32])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text encoder of transformers in a folder, with its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "color", "is", "the", "cir", "##cle", "?", "it", "red"]
    known = {word: i for i, word in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("frozen", [True, False])
def test_pretrained__reads_pieces(bert: Path, frozen: bool) -> None:
    network = met(make(text=Pretrained(str(bert), 16, frozen))).train()
    tower = network.text
    assert tower.model.training is not frozen
    assert tower.width == 16
    found = ask(network.eval(), [0, 1]).features["words"]
    assert found.tolist() == [[-1, 0, 1, 2, 3, 4, 4, 5, -1], [-1, 0, 1, 2, 3, -1, -1, -1, -1]]
    network(torch.rand(2, 3, 16, 16), torch.tensor([0, 1])).square().sum().backward()
    assert all((p.grad is None) is frozen for name, p in tower.named_parameters())


def test_pretrained__a_longer_question_of_another_sample_changes_nothing(bert: Path) -> None:
    network = make(text=Pretrained(str(bert), 16, True))
    alone = ask(met(network, SHORT), [0])
    torch.testing.assert_close(ask(met(network, *TEXTS), [1]).logits, alone.logits)


def test_pretrained__mistakes(tmp_path: Path, bert: Path) -> None:
    with pytest.raises(ValueError, match="the folder has no config.json"):
        Pretrained(str(tmp_path), 16, True)
    with pytest.raises(ValueError, match="has 9 tokens and this network takes 8"):
        met(make(text=Pretrained(str(bert), 8, True)))


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed, words",
    [
        ("student.heads=3", "student: heads=3: must divide width=64"),
        ("student.blocks=0", "student: blocks=0: at least one has to look at the image"),
        ("student.image.halvings=5", "halvings=5: must be from 0 to 4"),
        ("student.text.vocabulary=2", "vocabulary=2: must be at least 3"),
    ],
)
def test_config__mistakes(typed: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make_network(node("student=vqa", typed), "student", None)


def test_transformer__heads() -> None:
    with pytest.raises(ValueError, match="heads=3: must divide width=8"):
        Transformer(8, 16, 4, 1, 3)


def test_meet__mistakes() -> None:
    with pytest.raises(ValueError, match="this network reads text and the dataset has none"):
        make().meet(Words(("a", "b")))
    with pytest.raises(ValueError, match="has 6 tokens and this network takes 4"):
        make(text=GRU(6, 32, 4)).meet(Words((), TEXTS))
    with pytest.raises(ValueError, match="vocabulary=4: the texts have 8 words; give at least 10"):
        make(text=GRU(6, 4, 12)).meet(Words((), TEXTS))


def test_plain_cnn__cells_of_an_odd_image() -> None:
    maps: Tensor = PlainCNN(2, 3)(torch.zeros(1, 3, 33, 20))
    assert maps.shape == (1, 8, 5, 3)
