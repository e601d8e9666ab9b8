"""One figure per data set: what budget does to each scorer. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.engine.drawing import (
    DASHES,
    GREYS,
    GUIDE,
    encoded,
    labelled,
    legend_below,
    legend_name,
    lines_within,
    new_figure,
    plain_axes,
    side_by_side,
    title_above,
)
from harness.report.arrays import OVER_ALL, RAISING_CONTROL
from harness.report.colours import LIGHT, direction_mark, grouped, looks
from harness.report.dots import draw_dots
from harness.report.frontier_figure import draw_frontier
from harness.report.table import Table
from harness.report.triplets import overall_accuracy
from harness.suite.cell_names import CLEAN
from harness.wording import base_name, budget_text, marked, scorer_text, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TABLES = ("attacks", "shift", "srocc", "two_afc")
_NO_START = "without"
"""In place of the column of clean figures: the figure has no value without an attack."""
_MOST = 4
"""Panels side by side."""
_LEAST = 1.55
"""Inches of one in print."""
_LEAST_POINTS = 3
"""Of a line: two are no course."""
_OWN_WAY = "shift/σ, attack's way\n(controls: own way)"


def draw_figures(tables: Sequence[Table]) -> dict[str, bytes]:
    """PNG bytes of `figures_of`, as wide as a screen allows."""
    return {name: encoded(figure) for name, figure in figures_of(tables).items()}


def figures_of(tables: Sequence[Table], wide: float | None = None) -> dict[str, Figure]:
    """Per data set: shift, and SROCC or 2AFC accuracy, against the budget; one panel per scorer.

    Beside them, as "DATA SET frontier", the picture of each table `frontier`.

    Args:
        tables: Of the report.
        wide: Inches in print; by default as many as the panels want on a screen.
    """
    out = {}
    for dataset in dict.fromkeys(table.dataset for table in tables if table.dataset):
        mine = [_drawn(table) for table in tables if table.dataset == dataset]
        if any((table.frame["attack"] != "").any() for table in mine if table.name in _TABLES):
            out[dataset] = _draw(dataset, {table.name: table for table in mine}, wide)
    for table in tables:
        if table.name == "frontier" and (table.frame["state"] == "ok").any():
            out[frontier_name(table.dataset)] = draw_frontier(table, wide)
    return out


def frontier_name(dataset: str) -> str:
    """What the picture of a data set's frontier is called."""
    return f"{dataset} frontier"


def _drawn(table: Table) -> Table:
    """Without the furthest of all, whose line would hide the strongest attack's, and without transfers."""
    if not {"attack", "threat"} <= set(table.frame):
        return table
    left_out = table.frame["attack"].isin([CLEAN, *OVER_ALL]) | (table.frame["threat"] == "transfer")
    return dataclasses.replace(table, frame=table.frame[~left_out])


def _draw(dataset: str, tables: dict[str, Table], wide: float | None) -> Figure:
    measures: list[tuple[pd.DataFrame, str, str, str]] = []
    if "attacks" in tables:  # has what the other two have
        ranked = ["srocc"] if tables["attacks"].frame["srocc"].notna().any() else []
        tables = dict.fromkeys(["shift", *ranked], tables["attacks"]) | tables
    if "shift" in tables:
        measures.append((_own_way(tables["shift"].frame), "shift_over_sigma", "", _OWN_WAY))
    if "srocc" in tables:
        proxy = " with proxy" if "proxy" in tables["srocc"].title else ""
        measures.append((tables["srocc"].frame, "srocc", "clean_srocc", f"SROCC{proxy}"))
    if "two_afc" in tables:
        frame = tables["two_afc"].frame
        hard = overall_accuracy(frame) & (frame["attacked"] != "")
        proxy = ", proxy judge" if "proxy" in tables["two_afc"].title else ""
        measures.append((frame[hard], "accuracy", "clean_accuracy", f"2AFC accuracy{proxy}"))
    if "ir_score" in tables and tables["ir_score"].frame["eps"].nunique() > 1:
        measures.append((tables["ir_score"].frame, "r", _NO_START, "R (IR-Score)"))
    frames = [frame[frame["norm"] == frame.loc[frame["attack"] != "", "norm"].iloc[0]] for frame, _, _, _ in measures]
    names = list(dict.fromkeys(name for frame in frames for name in _names(frame)))
    if _one_budget(frames):
        panels = [[frame[[one == name for one in _names(frame)]] for name in names] for frame in frames]
        told = [(*measure[1:], rows) for measure, rows in zip(measures, panels, strict=True)]
        return draw_dots(f"{dataset}: scores under attack{_at(frames[0])}", names, told, wide)
    width = min(len(names), side_by_side(wide, _LEAST, _MOST) if wide else _MOST)
    strips = -(-len(names) // width)
    height = strips * len(measures)
    figure = new_figure(wide or 1.2 + 2.6 * width, 1.1 + (1.5 if wide else 2.2) * height)
    grid = figure.subplots(height, width, squeeze=False, sharex=True)
    styles = _styles(pd.concat(frames))
    for place, name in enumerate(names):
        for line, (frame, (_, value, clean, label)) in enumerate(zip(frames, measures, strict=True)):
            axes = grid[place // width * len(measures) + line][place % width]
            _panel(axes, frame[[one == name for one in _names(frame)]], value, clean, styles)
            title = lines_within(name, wide / width - 0.2, 8) if wide else name
            axes.set_title("" if line else title, fontsize=8 if wide else 9)
            if place % width == 0:
                axes.set_ylabel(label, fontsize=8)
    for line in range(len(measures)):
        cells = [grid[place // width * len(measures) + line][place % width] for place in range(len(names))]
        low, high = min(cell.get_ylim()[0] for cell in cells), max(cell.get_ylim()[1] for cell in cells)
        for cell in cells:
            cell.set_ylim(low, high)
    for place in range(len(names), strips * width):
        for line in range(len(measures)):
            grid[place // width * len(measures) + line][place % width].set_visible(False)
    known = labelled(figure)
    legend_below(figure, {one["label"]: known[one["label"]] for one in styles.values() if one["label"] in known})
    title_above(figure, f"{dataset}: scores under attack, by budget")
    return figure


def _own_way(frame: pd.DataFrame) -> pd.DataFrame:
    """Shifts with those of controls turned the way these push quality: restoring raises it, the others lower it."""
    lowering = frame["control"].astype(bool) & (frame["attack"].map(base_name) != RAISING_CONTROL)
    return frame.assign(shift_over_sigma=frame["shift_over_sigma"].where(~lowering, -frame["shift_over_sigma"]))


def _one_budget(frames: Sequence[pd.DataFrame]) -> bool:
    """Whether every attack was run at one and the same budget, so that there are no lines to draw."""
    return len({eps for frame in frames for eps in frame.loc[frame["attack"] != "", "eps"]}) == 1


def _at(frame: pd.DataFrame) -> str:
    row = frame[frame["attack"] != ""].iloc[0]
    return f" at {budget_text(str(row['norm']), float(row['eps']))}"


def _panel(axes: Axes, frame: pd.DataFrame, value: str, clean: str, styles: _Styles) -> None:
    start = [] if clean == _NO_START else [_start(frame, clean)]
    for value_without in start:
        axes.axhline(value_without, color=GUIDE, linewidth=0.8, linestyle=":")
    ok = frame[(frame["state"] == "ok") & (frame["attack"] != "")]
    for (attack, direction), line in ok.groupby(["attack", "direction"], sort=False):
        line = line.sort_values("eps")
        x, y = [*(0.0 for _ in start), *(line["eps"] * 255)], [*start, *line[value]]
        style = dict(styles[str(attack), str(direction)])
        if len(x) < _LEAST_POINTS:  # no course to draw: marks alone
            x, y, style["linestyle"] = x[-len(line) :], y[-len(line) :], ""
            style.setdefault("marker", direction_mark("control"))
        axes.plot(x, y, markersize=3.5, linewidth=1.3, **style)
    if len(ok):
        norm = str(ok["norm"].iloc[0])
        radii = sorted(ok["eps"].unique())
        axes.set_xticks([0, *(eps * 255 for eps in radii)], ["clean", *(budget_text(norm, eps) for eps in radii)])
        for tick in axes.get_xticklabels():
            tick.set_rotation(45)
    plain_axes(axes, 7)


def _start(frame: pd.DataFrame, clean: str) -> float:
    """What an attack starts from: the clean figure, or 0 for a change."""
    return float(frame[clean].dropna().iloc[0]) if clean and frame[clean].notna().any() else 0.0


_Styles = Mapping[tuple[str, str], Mapping[str, Any]]


def _styles(frame: pd.DataFrame) -> _Styles:
    """(attack, direction) -> its look: the colour of its name, dashes and shade by variant, marks by direction.

    Attacks are called by their name alone where that tells them from the others. Controls are grey.
    """
    rows = frame[frame["attack"] != ""].drop_duplicates(["attack", "direction"])
    control = rows["control"].astype(bool)
    names = short_names(list(dict.fromkeys(rows["attack"])))
    out: dict[tuple[str, str], dict[str, Any]] = {}
    for place, (attack, direction) in enumerate(rows.loc[control, ["attack", "direction"]].itertuples(index=False)):
        grey = {"color": GREYS[place % len(GREYS)], "linestyle": DASHES[place % len(DASHES)]}
        out[attack, direction] = {"label": legend_name(f"{names[attack]} (control)"), **grey}
    for attack, look in looks(grouped(list(rows.loc[~control, "attack"]))).items():
        for direction in rows.loc[~control & (rows["attack"] == attack), "direction"]:
            colour = LIGHT[look.colour]
            out[attack, direction] = {
                "label": legend_name(f"{names[attack]} {direction}"),
                "color": colour,
                "alpha": look.shade,
                "linestyle": (0, look.dash) if look.dash else "-",
                "marker": direction_mark(direction),
                "markerfacecolor": "none" if direction == "up" else colour,
            }
    return out


def _names(frame: pd.DataFrame) -> list[str]:
    columns = (frame[name].astype(str) for name in ("metric", "defense", "threat", "source", "broken"))
    return [marked(scorer_text(*who), broken) for *who, broken in zip(*columns, strict=True)]
