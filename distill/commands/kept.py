"""Kept: config files that are read once for many compositions, as a table or a sweep makes them."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_repository import IConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult, ConfigSource

Read = dict[str, ConfigResult | None]


class Kept(IConfigRepository):
    """Repository of configs that remembers what it read and gives out copies, for Hydra changes what it is given.

    Reading the yaml files is a third of a composition. Lives as long as one command: files that change meanwhile are
    not read again.

    Args:
        below: repository that reads.
        known: what was read, by searched folders and path; shared by all copies.
    """

    def __init__(self, below: IConfigRepository, known: dict[tuple[str | None, ...], Read] | None = None) -> None:
        self.below = below
        self.known: dict[tuple[str | None, ...], Read] = {} if known is None else known
        self.searched = tuple(source.path for source in below.get_sources())

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept:
        return Kept(self.below, self.known)  # Hydra makes one for every composition; it may only get other folders

    def load_config(self, config_path: str) -> ConfigResult | None:
        read = self.known.setdefault(self.searched, {})
        if config_path not in read:
            read[config_path] = self.below.load_config(config_path)
        return copy.deepcopy(read[config_path])

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        self.below = copy.copy(self.below)
        self.below.initialize_sources(config_search_path)
        self.searched = tuple(source.path for source in self.below.get_sources())

    def get_schema_source(self) -> ConfigSource:
        return self.below.get_schema_source()

    def group_exists(self, config_path: str) -> bool:
        return self.below.group_exists(config_path)

    def config_exists(self, config_path: str) -> bool:
        return self.below.config_exists(config_path)

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG) -> list[str]:
        return self.below.get_group_options(group_name, results_filter)

    def get_sources(self) -> list[ConfigSource]:
        return self.below.get_sources()
