"""Config files that are read once for many compositions: one may not see what another did with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra._internal.config_repository import ConfigRepository

from distill.commands.composing import Composer
from distill.config import compose, plain

CELLS = (
    ["loss=[ce,dkd]", "pair=vgg13_vgg8", "recipe=cifar_crd", "+loss.dkd.extra=1", "~teacher.vgg13.weight"],
    ["loss=[ce,dkd]", "pair=vgg13_vgg8", "recipe=cifar_crd", "loss.dkd.beta=3.0"],
    ["loss=[ce,kd]", "pair=resnet56_resnet20", "recipe=cifar_crd", "trainer.max_epochs=2"],
    ["loss=[ce,kd]"],
)


def _without_jobs(config: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in config.items() if key != "hydra"}


def test_composer__gives_what_a_composition_of_its_own_gives() -> None:
    with Composer() as composer:
        found = [_without_jobs(plain(composer.full(cell))) for cell in CELLS]
        again = [_without_jobs(plain(composer._compose(cell))) for cell in CELLS]
    alone = [compose(cell) for cell in CELLS]
    assert found == alone
    assert again == alone


def test_composer__reads_each_file_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    below = ConfigRepository.load_config

    def load(self: ConfigRepository, config_path: str) -> object:
        read.append(config_path)
        return below(self, config_path)

    monkeypatch.setattr(ConfigRepository, "load_config", load)
    with Composer() as composer:
        for cell in CELLS:
            composer.full(cell)
    assert "loss/dkd" in read
    assert sorted(read) == sorted(set(read))


def test_composer__folders_of_one_composition_are_not_those_of_another(tmp_path: Path) -> None:
    for name, value in (("one", 1.5), ("two", 2.5)):
        (tmp_path / name / "loss").mkdir(parents=True)
        (tmp_path / name / "loss" / "own.yaml").write_text(f"own: {{weight: {value}}}\n")
    with Composer() as composer:
        given = ["loss=[ce,own]", "hydra.searchpath=[{}]"]
        weights = [
            composer.full([given[0], given[1].format((tmp_path / name).as_uri())]).loss.own.weight
            for name in ("one", "two", "one")
        ]
        with pytest.raises(Exception, match="own"):
            composer.full(["loss=[ce,own]"])
    assert weights == [1.5, 2.5, 1.5]
