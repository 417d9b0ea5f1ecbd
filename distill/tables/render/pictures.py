"""PNG pictures of a table: accuracy against cost, curves, schedules, gain by class, agreement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.plots import TERM_COLOURS, Curve
from distill.results import quantity
from distill.tables.render.by_class import by_class
from distill.tables.render.trajectories import ACCURACY, SCHEDULE, Trajectories
from distill.tables.spec import Line, Table
from distill.tables.statistics import Score, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*X<>hdp"
FILLS: dict[str, Any] = {"-": "full", "--": "none", "-.": "left", ":": "top"}
"""How a point is filled, by the line style of its row, for rows of one colour."""
DOTS = 130
LINES = 0.19
"""Inches of a line of a legend."""
COLUMN = 1.9
"""Inches of a column of a legend."""


class Look:
    """One colour and line style a row, one marker a column; the teachers are black."""

    def __init__(self, table: Table) -> None:
        students = [row for row in table.rows if row.arm != "teacher"]
        # the style changes with each round of colours, so that no two rows look alike before 24 of them
        looks = [(colour, style) for style in STYLES for colour in TERM_COLOURS[:6]]
        self.rows = {row.key: look for row, look in zip(students, islice(cycle(looks), len(students)), strict=True)}
        self.rows |= {row.key: ("#000000", ":") for row in table.rows if row.arm == "teacher"}
        self.columns = {c.key: marker for c, marker in zip(table.columns, cycle(MARKERS), strict=False)}


def pictures(table: Table, scores: Scores, curves: Trajectories, folder: Path) -> list[Path]:
    """Draw every picture that has data into a folder and return their paths; old ones without data are removed."""
    look = Look(table)
    drawn = {
        "cost.png": _cost(table, scores, look),
        "curves.png": _curves(table, scores, curves, look),
        "schedules.png": _schedules(table, scores, curves),
        "per_class.png": by_class(table, scores),
        "agreement.png": _agreement(table, scores, look),
    }
    paths = []
    for name, figure in drawn.items():
        path = folder / name
        if figure is None:
            path.unlink(missing_ok=True)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        # without the version of matplotlib in it, the same picture has the same bytes
        figure.savefig(path, dpi=DOTS, metadata={"Software": None})
        paths.append(path)
    return paths


def _panels(count: int, width: float = 4.8, height: float = 3.7) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(count, 3)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width * across, height * down), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[:count]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points ``(cost, accuracy)`` that none beats in both, cheapest first."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def _cost(table: Table, scores: Scores, look: Look) -> Figure | None:
    done = scores.done()
    costs = {name: [(s, c.mean) for s in done if (c := s.mean(of))] for name, of in _kinds_of_cost(done).items()}
    # where every network costs the same there is nothing to trade
    costs = {name: found for name, found in costs.items() if len({cost for _, cost in found}) > 1}
    if not costs:
        return None
    figure, axes = _panels(len(costs))
    for axis, (name, found) in zip(axes, costs.items(), strict=True):
        _scatter(axis, found, look)
        front = pareto([(cost, s.accuracy.mean) for s, cost in found if s.accuracy])
        axis.plot(*zip(*front, strict=True), color="black", linewidth=1.0, alpha=0.5, zorder=1, drawstyle="steps-post")
        axis.set_xlabel(name)
        _scale(axis, [cost for _, cost in found])
    axes[0].set_ylabel("test accuracy, %")
    _legend(figure, table, done, look)
    return figure


def _kinds_of_cost(done: Sequence[Score]) -> dict[str, Callable[[Any], float | None]]:
    """Return what costs, by name; time of the CPU where it did all the work, as the clock counts other programs too."""
    entries = [entry for score in done for entry in score.entries]
    alone = all(entry.cpu_seconds is not None and entry.device.startswith("cpu") for entry in entries)
    time: dict[str, Callable[[Any], float | None]] = (
        {"CPU seconds of one training": lambda entry: entry.cpu_seconds}
        if alone
        else {"seconds of one training": lambda entry: entry.seconds}
    )
    return {**time, "parameters": lambda entry: entry.params, "FLOPs of one image": lambda entry: entry.flops}


def _scale(axis: Axes, costs: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if max(costs) > 10 * min(costs) > 0:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value)))


def _agreement(table: Table, scores: Scores, look: Look) -> Figure | None:
    found = [(s, a.mean) for s in scores.done() if not s.teacher and (a := s.mean(lambda e: e.agreement))]
    if len(found) < 2:
        return None
    figure, (axis,) = _panels(1, 5.6, 4.2)
    _scatter(axis, found, look)
    axis.set_xlabel("agreement with the teacher, % of test samples")
    axis.set_ylabel("test accuracy, %")
    _legend(figure, table, [s for s, _ in found], look)
    return figure


def _scatter(axis: Axes, found: Sequence[tuple[Score, float]], look: Look) -> None:
    for score, x in found:
        if score.accuracy is None:
            continue
        (colour, style), marker = look.rows[score.row.key], look.columns[score.column.key]
        bar = score.accuracy.std if score.accuracy.n > 1 else None
        axis.errorbar(x, score.accuracy.mean, yerr=bar, color=colour, marker=marker, markersize=6, linewidth=1.0,
                      alpha=0.9, linestyle="none", fillstyle=FILLS[style])  # fmt: skip


def _legend(figure: Figure, table: Table, shown: Sequence[Score], look: Look) -> None:
    """Rows by colour and, where there are several, columns by marker, beside the panels."""
    from matplotlib.lines import Line2D

    rows, columns = {s.row.key for s in shown}, {s.column.key for s in shown}
    marks = [
        Line2D([], [], color=colour, marker="o", linestyle="none", fillstyle=FILLS[style], label=_plain(row.title))
        for row in table.rows
        if row.key in rows
        for colour, style in (look.rows[row.key],)
    ]
    if len(columns) > 1:
        marks += [
            Line2D([], [], color="#777777", marker=look.columns[c.key], linestyle="none", label=_plain(c.title))
            for c in table.columns
            if c.key in columns
        ]
    _beside(figure, marks)


def _beside(figure: Figure, handles: Sequence[Any]) -> None:
    """Put a legend to the right of the panels, in as many columns as it needs, and widen the figure by them."""
    columns = math.ceil(len(handles) / (figure.get_figheight() / LINES))
    figure.set_figwidth(figure.get_figwidth() + COLUMN * (columns - 1))
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False, ncols=columns)


def _plain(words: str) -> str:
    """Keep matplotlib from reading dollars as mathematics."""
    return words.replace("$", r"\$")


def _curves(table: Table, scores: Scores, curves: Trajectories, look: Look) -> Figure | None:
    found: dict[str, list[tuple[Score, Curve]]] = {}
    for score in scores.done():
        if (curve := curves.of(score, ACCURACY)) and not score.teacher:
            found.setdefault(score.column.key, []).append((score, curve))
    if not found:
        return None
    figure, axes = _panels(len(found))
    for axis, (key, lines) in zip(axes, found.items(), strict=True):
        lows = []
        for score, curve in lines:
            _band(axis, curve, *look.rows[score.row.key], label=_plain(score.row.title))
            skipped = len(curve.mean) // 5
            lows.append(min(m - s for m, s in zip(curve.mean[skipped:], curve.std[skipped:], strict=True)))
        # the first fifth of a run climbs from chance and would flatten everything that differs later
        axis.set_ylim(max(0.0, min(lows) - 1), min(100.5, axis.dataLim.ymax + 1))
        axis.set_title(f"{_plain(table.column(key).title)}: test accuracy, %", fontsize=10)
        axis.set_xlabel("epoch")
        axis.locator_params(axis="x", integer=True)
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    ordered = [_plain(row.title) for row in table.rows if _plain(row.title) in handles]
    _beside(figure, [handles[x] for x in ordered])
    return figure


def _band(axis: Axes, curve: Curve, colour: str, style: str, label: str) -> None:
    marker = "o" if len(curve.epochs) == 1 else ""
    axis.plot(curve.epochs, curve.mean, color=colour, linestyle=style, linewidth=1.5, marker=marker, label=label)
    if any(curve.std):
        low = [m - s for m, s in zip(curve.mean, curve.std, strict=True)]
        high = [m + s for m, s in zip(curve.mean, curve.std, strict=True)]
        axis.fill_between(curve.epochs, low, high, color=colour, alpha=0.15, linewidth=0)


Trajectory = tuple[tuple[int, ...], tuple[float, ...]]


def _schedules(table: Table, scores: Scores, curves: Trajectories) -> Figure | None:
    """Temperatures in one panel, weights and the rest in another; a panel in which nothing ever moves is left out."""
    kinds: dict[str, dict[tuple[str, Trajectory], list[Line]]] = {"temperature": {}, "weights": {}}
    for score in scores.done():
        for name in (name for name in curves.keys(score) if name.startswith(SCHEDULE)):
            if found := curves.of(score, name):
                kind = kinds["temperature" if name.endswith("temperature") else "weights"]
                shape = (tuple(found.epochs), tuple(round(value, 6) for value in found.mean))
                rows = kind.setdefault((name.removeprefix(SCHEDULE), shape), [])
                rows += [score.row] * (score.row not in rows)
    panels = {title: kind for title, kind in kinds.items() if _moves(kind)}
    if not panels:
        return None
    figure, axes = _panels(len(panels), 6.4, 4.0)
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        looks = cycle((colour, style) for style in STYLES for colour in TERM_COLOURS)
        for ((name, (epochs, values)), rows), (colour, style) in zip(lines.items(), looks, strict=False):
            label = f"{name}: {_names(table, rows)}"
            axis.plot(epochs, values, color=colour, linestyle=style, linewidth=1.6, label=_plain(label))
        axis.set_ylim(0 if axis.dataLim.ymin >= 0 else None, None)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.14))
    return figure


def _moves(kind: dict[tuple[str, Trajectory], list[Line]]) -> bool:
    names = [name for name, _ in kind]
    return len(names) > len(set(names)) or any(len(set(values)) > 1 for _, (_, values) in kind)


def _names(table: Table, rows: Sequence[Line]) -> str:
    shown = [row.title for row in table.rows if row in rows]
    return ", ".join(shown) if len(shown) <= 3 else f"{', '.join(shown[:2])} and {len(shown) - 2} more"
