"""Prompts: sentences that say a class name, of which an image-text network makes a classifier."""

from __future__ import annotations

from collections.abc import Sequence

_CIFAR = ("photo of {} {{}}", "blurry photo of {} {{}}", "black and white photo of {} {{}}",
          "low contrast photo of {} {{}}", "high contrast photo of {} {{}}", "bad photo of {} {{}}",
          "good photo of {} {{}}", "photo of {} small {{}}", "photo of {} big {{}}")  # fmt: skip

TEMPLATES: dict[str, tuple[str, ...]] = {
    "generic": ("a photo of a {}.",),
    "cifar": tuple(f"a {form.format(article)}." for article in ("a", "the") for form in _CIFAR),
    "imagenet": (
        "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
        "art of the {}.", "a photo of the small {}.",
    ),
    "shapes": ("a {}", "a large {}", "the largest object is a {}"),
}  # fmt: skip
"""Sets of templates by name: of CIFAR and ImageNet those that OpenAI published with CLIP (Radford et al. 2021), of
ImageNet the seven that a search kept of its eighty; of shapes what the captions of that dataset say of one object."""
SLOT = "{}"


def templates(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the templates that a config asks for.

    Args:
        given: name of a set, one template, or several; each has ``{}`` once, where the class name goes.

    Raises:
        ValueError: when there is no such set, a template has no place for the name, or there is none.
    """
    if isinstance(given, str):
        if given in TEMPLATES:
            return TEMPLATES[given]
        if SLOT not in given:
            raise ValueError(
                f"templates must name a set of them ({', '.join(TEMPLATES)}) or be prompts with {{}}, where the class "
                f"name goes; got {given!r}"
            )
        given = [given]
    wrong = [prompt for prompt in given if prompt.count(SLOT) != 1]
    if wrong or not given:
        got = wrong[0] if wrong else "none"
        raise ValueError(f"templates must be prompts with {{}} once, where the class name goes; got {got!r}")
    return tuple(given)


def prompts(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return a sentence for each class and template, those of one class together; ``_`` in names is a space.

    Args:
        names: of the classes.
        chosen: templates, as :func:`templates` returns them.

    Raises:
        ValueError: when there are no classes, or they have no names.
    """
    spoken = [" ".join(name.replace("_", " ").split()) for name in names]
    if not spoken or any(not name for name in spoken):
        raise ValueError("the classes have no names, or an empty one; an image-text network knows a class by its name")
    if all(name.isdigit() for name in spoken):
        raise ValueError(
            f"the classes are called {', '.join(spoken[:3])}{', ...' if len(spoken) > 3 else ''}: they have no names, "
            "by which an image-text network knows them; choose a dataset whose classes have names"
        )
    return [template.replace(SLOT, name) for name in spoken for template in chosen]
