"""Everything a reader sees of a table, written from its results: README, LaTeX, CSV, leaderboard, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.records import write_text
from distill.tables.render.latex import latex
from distill.tables.render.leaderboard import leaderboard
from distill.tables.render.markdown import markdown
from distill.tables.render.pictures import pictures
from distill.tables.render.trajectories import Trajectories, measured
from distill.tables.render.values import values
from distill.tables.results import Entry, Epoch
from distill.tables.spec import Table
from distill.tables.statistics import score


def render(table: Table, entries: Sequence[Entry], epochs: Sequence[Epoch], folder: Path) -> list[Path]:
    """Write README.md, table.tex, table.csv, leaderboard.html and ``plots/*.png``; the same input gives the same bytes.

    Args:
        table: as declared.
        entries: trainings, as results.csv keeps them.
        epochs: their epochs, as curves.csv keeps them.
        folder: where to write; made when absent.

    Returns:
        What was written. A picture that has no data is not drawn, and an old one of its name is removed.
    """
    curves = Trajectories(epochs)
    scores = measured(table, score(table, entries), curves)
    drawn = pictures(table, scores, curves, folder / "plots")
    texts = {
        "README.md": markdown(table, scores, [path.name for path in drawn]),
        "table.tex": latex(table, scores),
        "table.csv": values(table, scores),
        "leaderboard.html": leaderboard(table, scores, curves),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *drawn]
