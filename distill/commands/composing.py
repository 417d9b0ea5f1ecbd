"""Composes a command line with Hydra and says every override that is wrong, each in one sentence."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from distill.commands.kept import Kept
from distill.config import Config, plain
from distill.kinds import ANY, describe, shown
from distill.places import CONF
from distill.signatures import near, root, signature

MULTI = ("teacher", "loss", "scheduler")
"""Groups of which several are chosen at a time."""
PLUGINS = {
    "joblib": ("hydra_joblib_launcher", "joblib"),
    **dict.fromkeys(("slurm", "submitit_slurm", "submitit_local"), ("hydra_submitit_launcher", "slurm")),
    **dict.fromkeys(("ray", "ray_cluster"), ("hydra_ray_launcher", "ray")),
}
"""Package and extra of distill that a launcher needs."""
GRAMMAR = "write key=value, a list as 'key=[a,b]', and text with special characters as 'key=\"...\"'"
WRONG = (HydraException, OmegaConfBaseException, ValueError, TypeError, AttributeError, FileNotFoundError)


@dataclass(frozen=True)
class Typed:
    """An override as it was typed, or as one value of a sweep replaces it."""

    text: str
    parsed: Override

    @property
    def key(self) -> str:
        """Dotted key, or the group."""
        return self.parsed.key_or_group


class Composer:
    """Hydra's composition for as long as the context lasts.

    Args:
        config_name: primary config.
        config_path: folder of the primary config; None for the shipped one.
        config_dir: folder with groups of the user's.
    """

    def __init__(
        self, config_name: str = "train", config_path: str | None = None, config_dir: str | None = None
    ) -> None:
        self.name = config_name
        self.path = str(Path(config_path).resolve()) if config_path else str(CONF)
        self._parsed: dict[str, Typed] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._options: dict[str, list[str]] = {}
        self.extra = [f"hydra.searchpath=[{Path(config_dir).resolve().as_uri()}]"] if config_dir else []

    def __enter__(self) -> Composer:
        self._context = initialize_config_dir(self.path, version_base="1.3")
        self._context.__enter__()
        self.loader = GlobalHydra.instance().config_loader()
        assert isinstance(self.loader, ConfigLoaderImpl)
        self.loader.repository = Kept(self.loader.repository)  # type: ignore[assignment]  # any repository does
        return self

    @cached_property
    def _files(self) -> IConfigRepository:
        # what get_group_options() of the loader makes anew for each group
        assert isinstance(self.loader, ConfigLoaderImpl)
        return self.loader._parse_overrides_and_create_caching_repo(self.name, list(self.extra))[1]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._context.__exit__(kind, error, at)

    def parse(self, text: str) -> Typed:
        """Return an override parsed.

        Raises:
            ValueError: when Hydra's grammar has no place for it.
        """
        if text not in self._parsed:
            self._parsed[text] = self._parse(text)
        return self._parsed[text]

    def _parse(self, text: str) -> Typed:
        try:
            return Typed(text, OverridesParser.create(config_loader=self.loader).parse_overrides([text])[0])
        except HydraException as error:
            reason = str(error).split("\n")[0].removeprefix("LexerNoViableAltException: ")
            why = "has no value" if "=" not in text else f"cannot be read ({reason})"
            raise ValueError(f"{text}: {why}; {GRAMMAR}") from error

    def options(self, group: str) -> list[str]:
        """Return the choices of a group; empty where there is no such group."""
        if group not in self._options:
            self._options[group] = self._files.get_group_options(group, ObjectType.CONFIG)
        return self._options[group]

    def full(self, overrides: Sequence[str]) -> DictConfig:
        """Return the composed config with Hydra's own part, not to be changed; raises what Hydra raises."""
        known = tuple(overrides)
        if known not in self._composed:
            self._composed[known] = self._compose(overrides)
        return self._composed[known]

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        searched = [o for o in overrides if o.startswith("hydra.searchpath=[")]
        extra = self.extra
        if extra and searched:  # Hydra reads the first only
            extra = [f"{searched[0][:-1]},{self.extra[0].partition('[')[2]}"]
            overrides = [o for o in overrides if o not in searched]
        return hydra_compose(self.name, [*extra, *overrides], return_hydra_config=True)

    def compose(self, typed: Sequence[Typed]) -> tuple[DictConfig, list[str]]:
        """Return the config and one sentence for each override that is wrong.

        A wrong override is replaced by what was probably meant, or left out, so that the rest can be looked at.
        """
        try:
            found = [sentence for t in typed for sentence, _ in self._choice(t)]
            if not found:
                return self.full([t.text for t in typed]), []
        except WRONG:
            found = []
        return self._one_by_one(sorted(typed, key=lambda t: not self.options(t.key)))

    def _one_by_one(self, typed: Sequence[Typed]) -> tuple[DictConfig, list[str]]:
        found: list[str] = []
        kept: list[str] = []
        guessed: list[str] = []
        config = self.full(kept)  # what is wrong without any override is no mistake of the command line
        for one in typed:
            text = one.text
            for sentence, repaired in self._choice(one):
                found.append(sentence)
                guessed.append(one.key.replace("/", "."))
                text = repaired
            if not text:
                continue
            try:
                config, kept = self.full([*kept, text]), [*kept, text]
            except WRONG as error:
                if any(one.key.startswith(f"{group}.") for group in guessed):
                    continue  # below a choice that is wrong itself
                sentence, repaired = explain(one, error, config, self)
                found.append(sentence)
                try:
                    config, kept = self.full([*kept, repaired]), [*kept, repaired]
                except WRONG:
                    continue
        return config, found

    def _choice(self, typed: Typed) -> Iterator[tuple[str, str]]:
        """Give a sentence, and the override repaired or empty, where a group is given what is no choice of it."""
        group, override = typed.key, typed.parsed
        options = self.options(group)
        if override.is_delete() or override.is_sweep_override():
            return
        value: Any = override.value()
        if not options:
            if value in self.options(group.replace(".", "/")):
                repaired = typed.text.replace(group, group.replace(".", "/"), 1)
                yield f"{typed.text}: {value} is an option of a group, not a value; write {repaired}", repaired
            return
        package, extra = PLUGINS.get(str(value), ("", "")) if group == "hydra/launcher" else ("", "")
        if package and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
            yield f"{typed.text}: needs a plugin of Hydra; pip install 'distill[{extra}]'", ""
            return
        values = value if isinstance(value, list) else [value]
        kind = group.rpartition("/")[2]
        if isinstance(value, list) and group in (*GROUPS_OF_ONE, *NESTED) and len(values) != 1:
            fix = f"to compare several write -m {group}={','.join(map(str, values))}"
            yield f"{typed.text}: {kind} takes one choice; {fix}", ""
            return
        wrong = [v for v in values if v not in options]
        if not wrong:
            return
        meant = [next(iter(difflib.get_close_matches(str(v), options, 1)), None) if v in wrong else v for v in values]
        better = [m for m in meant if m is not None]
        known = sorted(options, key=lambda o: -difflib.SequenceMatcher(None, str(wrong[0]), o).ratio())
        listed = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
        listed = f"{'nearest' if len(known) > 6 else 'choose one of'}: {listed}"
        key = override.get_key_element()
        repaired = f"{key}={better[0]}" if better else ""
        if isinstance(value, list):
            repaired = f"{key}=[{','.join(map(str, better))}]"
        for word in wrong:
            yield f"{typed.text}: no such {kind} as {shown(word)}; {listed}", repaired


GROUPS_OF_ONE = ("cache", "student", "dataset", "optimizer", "lr_scheduler", "trainer", "logger", "recipe", "pair")
NESTED = ("dataset/augment", "dataset/mix")


def explain(one: Typed, error: Exception, config: DictConfig, composer: Composer) -> tuple[str, str]:
    """Return what is wrong with an override that Hydra refused, and the override that was probably meant."""
    text, key, value = one.text, one.key, one.text.partition("=")[2]
    cause = error.__cause__ or error
    message = str(error).split("\n")[0]
    if composer.options(key):
        if one.parsed.value_type is not None and "+" not in text[:1]:
            return f"{text}: {key} is not among the defaults; write +{text}", f"+{text}"
        return f"{text}: {message}; correct it", ""
    if "already at" in message:
        return f"{text}: {key} is in the config already; write {text.lstrip('+')}", text.lstrip("+")
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) or "Could not delete" in message:
        return _no_such_key(one, plain(config), composer)
    kind = root().get(key, ANY)
    if kind != ANY:
        return f"{key}={value}: must be {describe(kind)}", ""
    return f"{text}: {str(cause).splitlines()[0]}; correct it", ""


def _no_such_key(one: Typed, config: Config, composer: Composer) -> tuple[str, str]:
    config.pop("hydra", None)
    parts = one.key.split(".")
    node: Any = config
    depth = 0
    while depth < len(parts) - 1 and isinstance(node, Mapping) and isinstance(node.get(parts[depth]), Mapping):
        node, depth = node[parts[depth]], depth + 1
    parent, word, rest = parts[:depth], parts[depth], parts[depth + 1 :]
    if not isinstance(node, Mapping):
        node = {}

    def instead(better: Sequence[str]) -> tuple[str, str]:
        repaired = one.text.replace(one.key, ".".join(better), 1)
        sentence = f"{one.text}: no such key; did you mean {'.'.join(better)}? ({repaired})"
        return sentence, "" if one.parsed.is_delete() else repaired

    if not rest and _takes(node, word) or parent[:1] == ["teacher"] and parent[2:3] == ["training"]:
        return f"{one.text}: {'.'.join(parent)} says nothing of {word} yet; to add it write +{one.text}", f"+{one.text}"
    group = "/".join(parent)
    if group in MULTI and word in composer.options(group):
        chosen = ",".join([*node, word])
        return f"{one.text}: {word} is not chosen; add it with {group}=[{chosen}]", ""
    if parent and not node and composer.options(group):
        others = ", ".join(f"{group}={option}" for option in composer.options(group))
        return f"{one.text}: {group} as it is chosen has no keys; choose another first: {others}", ""
    close = difflib.get_close_matches(word, list(node), 1, 0.7)
    if close:
        return instead([*parent, close[0], *rest])
    same = [path for path in _paths(config) if path[-1] == parts[-1] and path[0] not in ("teacher", "pair")]
    if len(same) == 1:
        return instead(same[0])
    if same:
        return f"{one.text}: no such key; did you mean {' or '.join('.'.join(path) for path in same[:4])}?", ""
    groups = [g for g in ("experiment", "search", "recipe", "pair") if g.startswith(word[:4])]
    names = [*node, *groups] if not parent else list(node)
    where = f" in {'.'.join(parent)}" if parent else ""
    return f"{one.text}: no such key{where}; {near(word, [n for n in names if n != '_target_'])}", ""


def _takes(node: Mapping[str, Any], word: str) -> bool:
    try:
        known = signature(node["_target_"]) if "_target_" in node else None
    except ImportError:
        return False
    return known is not None and word in known.parameters


def _paths(config: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(config, Mapping):
        for key, below in config.items():
            yield (*path, str(key))
            yield from _paths(below, (*path, str(key)))
