"""Templates as they were published, and what is no prompt."""

import pytest

from distill.networks.prompts import TEMPLATES, prompts, templates


def test_templates__of_cifar_are_the_eighteen_of_openai() -> None:
    found = TEMPLATES["cifar"]
    assert len(set(found)) == 18
    assert found[:3] == ("a photo of a {}.", "a blurry photo of a {}.", "a black and white photo of a {}.")
    assert found[-1] == "a photo of the big {}."
    assert found[7] == "a photo of a small {}."


def test_templates__of_imagenet_are_those_of_open_clip() -> None:
    metadata = pytest.importorskip("open_clip.zero_shot_metadata", reason="pip install 'distill[open_clip]'")
    assert TEMPLATES["imagenet"] == tuple(make("{}") for make in metadata.SIMPLE_IMAGENET_TEMPLATES)


def test_prompts__each_class_in_each_template() -> None:
    found = prompts(["oak_tree", "cat"], templates(["a {}.", "the {}"]))
    assert found == ["a oak tree.", "the oak tree", "a cat.", "the cat"]
    assert prompts(["cat"], templates("one {} here")) == ["one cat here"]


@pytest.mark.parametrize(
    "given, message",
    [
        ("cifar1000", "templates must name a set of them \\(generic, cifar,.* or be prompts with {}.* got 'cifar1000'"),
        (["a photo"], "templates must be prompts with {} once, where the class name goes; got 'a photo'"),
        (["a {} and a {}"], "got 'a {} and a {}'"),
        ([], "templates must be prompts with {} once.* got 'none'"),
    ],
)
def test_templates__mistakes(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        templates(given)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [[], ["cat", " "]])
def test_prompts__without_names(names: list[str]) -> None:
    with pytest.raises(ValueError, match="have no names, or an empty one"):
        prompts(names, ("a {}",))


def test_prompts__classes_that_are_numbers() -> None:
    with pytest.raises(ValueError, match="the classes are called 0, 1, 2, ...: they have no names"):
        prompts(["0", "1", "2", "3"], ("a {}",))
