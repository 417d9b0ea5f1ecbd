"""Which classes a method helps: accuracy of each class minus that of the student without it, as a map."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from distill.tables.spec import Line, Table
from distill.tables.statistics import Score, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 12
"""Up to so many classes, the cells bear their numbers."""


def reference(table: Table) -> Line | None:
    """Return the row that gains of classes refer to: the student alone, else the baseline."""
    alone = [row for row in table.rows if row.arm == "alone"]
    return next((row for row in (*alone, *table.rows) if row.arm == "alone" or row.key == table.baseline), None)


def gains(score: Score, base: Score) -> list[float] | None:
    """Return points gained by each class, over the seeds that both cells have; None where none fits."""
    ours, theirs = ({e.seed: e.by_class for e in s.entries if e.by_class} for s in (score, base))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    if len({len(classes[seed]) for classes in (ours, theirs) for seed in seeds}) > 1:
        return None  # the same column with another dataset: no class is the same as another
    pairs = [list(zip(ours[seed], theirs[seed], strict=True)) for seed in seeds]
    columns = [[o - t for o, t in column if o is not None and t is not None] for column in zip(*pairs, strict=True)]
    return [statistics.fmean(column) if column else float("nan") for column in columns]


def difficulty(base: Score) -> list[int]:
    """Return the classes, hardest for the student without the method first."""
    columns = list(zip(*(e.by_class for e in base.entries if e.by_class), strict=True))
    means = [statistics.fmean([v for v in column if v is not None] or [0.0]) for column in columns]
    return sorted(range(len(means)), key=lambda i: (means[i], i))


def by_class(table: Table, scores: Scores) -> Figure | None:
    """Return a map of gains, rows by classes, for each column that has them; None where none has."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    base = reference(table)
    if base is None:
        return None
    panels = []
    for column in table.columns:
        before = scores.cells[base.key, column.key]
        found = [(s, g) for s in scores.of_column(column.key) if s.row != base and not s.teacher
                 and (g := gains(s, before))]  # fmt: skip
        if found:
            panels.append((column, before, found))
    if not panels:
        return None
    heights = [0.9 + 0.32 * len(found) for _, _, found in panels]
    figure = Figure(figsize=(9.6, sum(heights) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights).flatten().tolist()
    top = max(abs(v) for _, _, found in panels for _, g in found for v in g if v == v) or 1.0
    for axis, (column, before, found) in zip(axes, panels, strict=True):
        _map(axis, found, difficulty(before), top)
        title = f"{column.title}: points gained by class over {base.title}"
        axis.set_title(title.replace("$", r"\$"), fontsize=10)
    axes[-1].set_xlabel(f"class, hardest for {base.title.replace('$', chr(92) + '$')} first")
    # as wide beside seven panels as beside one
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.9, pad=0.01, aspect=6 * sum(heights))
    return figure


def _map(axis: Axes, found: list[tuple[Score, list[float]]], order: list[int], top: float) -> None:
    grid = [[gains[i] for i in order] for _, gains in found]
    # purple to orange: a diverging map that colour-blind readers tell apart
    axis.imshow(grid, cmap="PuOr_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest")
    axis.set_yticks(range(len(found)), [s.row.title.replace("$", r"\$") for s, _ in found], fontsize=8)
    step = 1 if len(order) <= 2 * FEW else 5
    axis.set_xticks(range(0, len(order), step), [str(i) for i in order[::step]], fontsize=7)
    axis.spines[:].set_visible(False)
    if len(order) <= FEW:
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                if value == value:
                    shade = "white" if abs(value) > 0.6 * top else "black"
                    axis.text(x, y, f"{value:+.1f}", ha="center", va="center", fontsize=7, color=shade)
