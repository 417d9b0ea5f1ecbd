"""Every table that is shipped: each cell composes and has no mistake that its config or signatures show."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.tables import spec
from distill.tables.checking import Configs, check, places
from distill.tables.store import Store
from distill.verdict import Case

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TABLES = sorted(path.parent.name for path in EXPERIMENTS.glob("*/table.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_check__every_shipped_cell(name: str, tmp_path: Path) -> None:
    table = spec.load(EXPERIMENTS / name)
    where = places(list(table))
    with Configs(Store(table, tmp_path)) as configs:
        for place in where:
            config, mistakes = configs.at(place)
            assert mistakes == []
            assert config is not None
            assert Case(config, dry_run=False).quick == []
        # what only the parts themselves can say of their arguments depends on the row or on the column, not on both
        cross = [at for at in where if at.column == where[0].column or at.row == where[-1].row]
        assert check(configs, cross) == []


@pytest.mark.parametrize("name", TABLES)
def test_load__every_shipped_table(name: str) -> None:
    table = spec.load(EXPERIMENTS / name)
    assert table.baseline in {cell.row for cell in table}
    assert table.smoke
    for row, column in table.published:
        assert (row, column) not in table.left_out


def test_overrides_of__a_row_alone_keeps_what_it_says_of_the_labels() -> None:
    table = spec.load(EXPERIMENTS / "clip_cifar100")
    typed = table.overrides_of(spec.Cell("alone_10", "r20", 0))
    assert typed.index("loss=[ce]") < typed.index("loss.ce.labelled=0.1")
    assert not any(o.lstrip("+").startswith("teacher.") for o in typed)
    tried = table.overrides_of(spec.Cell("alone_10", "r20", 0), smoke=True)
    assert not any(o.lstrip("+").startswith("teacher.") for o in tried)
    assert "dataset=shapes" in tried
