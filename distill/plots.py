"""Curves of one comparison: accuracy of teacher, student alone and distilled; loss terms; what schedules did."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distill.records import Record
from distill.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"alone": "#0072B2", "distilled": "#D55E00"}
"""From the palette of Okabe and Ito, which colour-blind readers tell apart; line styles differ as well."""
TERM_COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#0072B2", "#D55E00", "#000000")
STYLES = {"alone": "--", "distilled": "-"}
LOG_RANGE = 30.0
"""Ratio of largest to smallest loss from which on the axis is logarithmic."""


class Curve(NamedTuple):
    """Mean and sample standard deviation over seeds at each epoch that all of them have."""

    epochs: list[int]
    mean: list[float]
    std: list[float]


def curve(records: Sequence[Record], key: str) -> Curve:
    """Return a quantity of the history by epoch, over the records of several seeds."""
    by_seed = [{int(row["epoch"]): row[key] for row in r["history"] if row.get(key) is not None} for r in records]
    epochs = sorted(set.intersection(*(set(found) for found in by_seed)))
    columns = [[found[epoch] for found in by_seed] for epoch in epochs]
    return Curve(
        epochs,
        [statistics.fmean(values) for values in columns],
        [statistics.stdev(values) if len(values) > 1 else 0.0 for values in columns],
    )


def curves(result: Result, path: Path) -> None:
    """Draw a comparison into one PNG: a line for the mean over the seeds, a band of one standard deviation.

    Args:
        result: as :func:`distill.run` returned it.
        path: file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    taught = result.arms.get("distilled") or result.arms["alone"]
    keys = list(dict.fromkeys(key for row in taught[0]["history"] for key in row))
    schedules = [key for key in keys if key.startswith("schedule/")]
    temperatures = [key for key in schedules if key.endswith("temperature")]
    panels = [
        ("loss terms, before their weights", [key for key in keys if key.startswith("loss/")]),
        ("temperature", temperatures),
        ("weights and other schedules", [key for key in schedules if key not in temperatures]),
    ]
    panels = [(title, names) for title, names in panels if names]
    figure = Figure(figsize=(4.8 * (1 + len(panels)), 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    first, *rest = figure.subplots(1, 1 + len(panels), squeeze=False)[0]
    _accuracy(first, result)
    for axis, (title, names) in zip(rest, panels, strict=True):
        _lines(axis, title, taught, names)
        axis.set_xlim(first.get_xlim())
    for axis in (first, *rest):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.locator_params(axis="x", integer=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _accuracy(axis: Axes, result: Result) -> None:
    """Accuracy on the test split, with what the rule of the comparison reads from it in the legend."""
    last, lows = 1, []
    for arm, records in result.arms.items():
        found = curve(records, "test/accuracy")
        text = f"student {arm}  {result.accuracy(arm)}" + (f"  (n={len(records)})" if len(records) > 1 else "")
        _band(axis, found, COLOURS[arm], STYLES[arm], text)
        last = max(last, found.epochs[-1])
        skipped = len(found.mean) // 5
        lows.append(min(m - s for m, s in zip(found.mean[skipped:], found.std[skipped:], strict=True)))
    for name, record in result.teachers.items():
        value = record["accuracy"][result.rule]
        axis.axhline(value, color="black", linewidth=1.0, linestyle=":", label=f"teacher {name}  {value:.2f}")
        found = curve([record], "test/accuracy")
        axis.plot(found.epochs, found.mean, color="black", linewidth=0.8, alpha=0.5)
    top = max(axis.get_ylim()[1], axis.dataLim.ymax + 1)
    # the first fifth of a run climbs from chance and would flatten everything that differs later
    axis.set_ylim(max(0.0, min(lows) - 2), min(100.5, top))
    axis.set_xlim(1, max(last, 2))
    axis.set_title("test accuracy, %", fontsize=10)
    axis.legend(fontsize=8, loc="lower right", frameon=False)


def _lines(axis: Axes, title: str, records: Sequence[Record], names: Sequence[str]) -> None:
    """Draw several quantities of the same records into one panel; losses that range widely on a logarithmic axis."""
    values: list[float] = []
    for name, colour, style in zip(names, cycle(TERM_COLOURS), cycle(("-", "--", "-.", ":")), strict=False):
        found = curve(records, name)
        _band(axis, found, colour, style, name.partition("/")[2])
        values += found.mean
    if names[0].startswith("loss/") and min(values) > 0 and max(values) > LOG_RANGE * min(values):
        axis.set_yscale("log")
    else:
        axis.set_ylim(0 if min(values) >= 0 else None, None)
    axis.set_title(title, fontsize=10)
    axis.legend(fontsize=8, frameon=False)


def _band(axis: Axes, found: Curve, colour: str, style: str, label: str) -> None:
    marker = "o" if len(found.epochs) == 1 else ""
    axis.plot(found.epochs, found.mean, color=colour, linestyle=style, linewidth=1.6, marker=marker, label=label)
    if any(found.std):
        low = [m - s for m, s in zip(found.mean, found.std, strict=True)]
        high = [m + s for m, s in zip(found.mean, found.std, strict=True)]
        axis.fill_between(found.epochs, low, high, color=colour, alpha=0.18, linewidth=0)
