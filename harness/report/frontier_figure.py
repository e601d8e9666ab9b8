"""The picture of a frontier: clean SROCC against robust pair accuracy, a point for every defense of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.engine.drawing import (
    DASHES,
    GREYS,
    GUIDE,
    INK,
    MARKERS,
    PALETTE,
    legend_below,
    legend_name,
    lines_within,
    new_figure,
    plain_axes,
    side_by_side,
    title_above,
)
from harness.report.arrays import FURTHEST
from harness.report.layout import usual_of
from harness.report.table import Table
from harness.wording import NO_DEFENSE, budget_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 3
"""Panels side by side."""
_LEAST = 3.0
"""Inches of one in print."""


def draw_frontier(table: Table, wide: float | None = None) -> Figure:
    """One panel per metric: points with intervals, paths of mixed weights as lines, and the level they are compared at.

    Args:
        table: The table `frontier` of one data set, with a point of state "ok".
        wide: Inches in print; by default as many as the panels want on a screen.
    """
    frame, attack, budget = _strongest(table.frame)
    metrics = list(dict.fromkeys(frame["metric"]))
    width = min(len(metrics), side_by_side(wide, _LEAST, _MOST) if wide else _MOST)
    height = -(-len(metrics) // width)
    figure = new_figure(wide or 1.0 + 5.0 * width, 0.9 + (3.0 if wide else 4.2) * height)
    grid = figure.subplots(height, width, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(metrics):
            axes.set_visible(False)
            continue
        _panel(axes, frame[frame["metric"] == metrics[place]])
        if not wide:
            axes.legend(fontsize=7, frameon=False, loc="best")
        axes.set_title(metrics[place], fontsize=10)
    proxy = " (proxy labels)" if "proxy" in table.title else ""
    title = f"{table.dataset}: clean accuracy against robustness\n{attack} at {budget}; bars are 95 % intervals"
    title_above(figure, title)
    right = f"clean SROCC{proxy}  (right is better)"
    up = "robust pair accuracy, both images attacked  (up is better)"
    if wide:  # under all panels, where one name of the axis for all of them would be
        legend_below(figure, points=7)
        for axes in grid[-1]:
            axes.set_xlabel(right, fontsize=8)
    else:
        figure.supxlabel(right, fontsize=9)
    figure.supylabel(lines_within(up, figure.get_size_inches()[1] - 1, 9), fontsize=9)
    return figure


def _strongest(frame: pd.DataFrame) -> tuple[pd.DataFrame, str, str]:
    """The rows of one attack and budget: the usual budget, there the furthest of all or the strongest attack."""
    ok = frame[frame["state"] == "ok"]
    norm = str(ok["norm"].iloc[0])
    ok = ok[ok["norm"] == norm]
    eps = usual_of(ok["eps"])
    ok = ok[ok["eps"] == eps]
    points = ok[ok["kind"] == "point"].groupby("attack")["accuracy"].mean()
    attack = FURTHEST if FURTHEST in points.index else str(points.idxmin())
    return ok[ok["attack"] == attack], attack, f"ε {budget_text(norm, float(eps))}"


def _panel(axes: Axes, frame: pd.DataFrame) -> None:
    points = frame[frame["kind"] == "point"]
    base = points[points["defense"] == NO_DEFENSE]
    paths = [path for path in dict.fromkeys(points["path"]) if path]
    for place, path in enumerate(paths):
        own = points[points["path"] == path].sort_values("share")
        colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
        if len(own) > 1:
            line = pd.concat([base, own])
            axes.plot(line["clean_srocc"], line["accuracy"], color=colour, linewidth=1.2, alpha=0.7)
        _points(axes, own, colour, marker, path)
        if len(own) > 1:
            for row in own.itertuples():
                axes.annotate(
                    f"{row.share:g}",
                    (float(row.clean_srocc), float(row.accuracy)),
                    xytext=(5, 5),
                    textcoords="offset points",
                    fontsize=7,
                    color=colour,
                )
    _points(axes, base, INK, "o", NO_DEFENSE)
    colours = {path: PALETTE[place % len(PALETTE)] for place, path in enumerate(paths)}
    _honest(axes, points, colours)
    for number, (name, level) in enumerate(frame[frame["kind"] != "point"].groupby("level", sort=False)):
        axes.axvline(
            float(level["clean_srocc"].iloc[0]),
            color=GUIDE,
            linewidth=0.9,
            linestyle=DASHES[number % 2],
            label=legend_name(str(name)),
        )
    plain_axes(axes)


def _points(axes: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str) -> None:
    x, y = rows["clean_srocc"].to_numpy(float), rows["accuracy"].to_numpy(float)
    low, high = (rows[f"accuracy_{end}"].to_numpy(float) for end in ("low", "high"))
    left, right = (rows[f"clean_srocc_{end}"].to_numpy(float) for end in ("low", "high"))
    axes.errorbar(x, y, xerr=[x - left, right - x], yerr=[y - low, high - y], fmt="none", ecolor=colour, alpha=0.25)
    axes.plot(x, y, linestyle="", marker=marker, color=colour, markersize=6, label=legend_name(label))


def _honest(axes: Axes, points: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """A stroke above each point, of its colour: what an honest change inside the ball leaves of the accuracy."""
    known = points[points["honest"].notna()]
    place: dict[str, Any] = {"linestyle": "", "marker": "_", "markersize": 9}
    for path, own in known.groupby("path", sort=False):
        axes.plot(own["clean_srocc"], own["honest"], color=colours.get(str(path), INK), **place)
    if len(known):
        axes.plot([], [], color=GREYS[1], label="honest reference of each (restore, noise)", **place)
