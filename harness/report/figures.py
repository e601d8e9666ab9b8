"""One figure per data set: what budget does to each scorer. matplotlib is imported only when one is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.engine.drawing import (
    DASHES,
    GREYS,
    GUIDE,
    MARKERS,
    PALETTE,
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
from harness.report.arrays import OVER_ALL
from harness.report.dots import draw_dots
from harness.report.frontier_figure import draw_frontier
from harness.report.table import Table
from harness.report.triplets import overall_accuracy
from harness.suite.cell_names import CLEAN
from harness.wording import budget_text, marked, scorer_text, short_names

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
_MARKERS = {"up": "^", "down": "v", "mos_split": "D", "self_split": "s", "random_sign": "o", "error": "X", "pair": "D"}

_LINES = ("-", *DASHES)
"""Of attacks, in their order."""


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
        measures.append((tables["shift"].frame, "shift_over_sigma", "", "shift/σ, attack's way"))
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
    legend_below(figure, {text: known[text] for text in styles if text in known})
    title_above(figure, f"{dataset}: scores under attack, by budget")
    return figure


def _one_budget(frames: Sequence[pd.DataFrame]) -> bool:
    """Whether every attack was run at one and the same budget, so that there are no lines to draw."""
    return len({eps for frame in frames for eps in frame.loc[frame["attack"] != "", "eps"]}) == 1


def _at(frame: pd.DataFrame) -> str:
    row = frame[frame["attack"] != ""].iloc[0]
    return f" at {budget_text(str(row['norm']), float(row['eps']))}"


def _panel(axes: Axes, frame: pd.DataFrame, value: str, clean: str, styles: dict[str, dict[str, Any]]) -> None:
    start = [] if clean == _NO_START else [_start(frame, clean)]
    for value_without in start:
        axes.axhline(value_without, color=GUIDE, linewidth=0.8, linestyle=":")
    ok = frame[(frame["state"] == "ok") & (frame["attack"] != "")]
    for (attack, direction), line in ok.groupby(["attack", "direction"], sort=False):
        line = line.sort_values("eps")
        text = _line(str(attack), str(direction))
        x, y = [*(0.0 for _ in start), *(line["eps"] * 255)], [*start, *line[value]]
        axes.plot(x, y, label=legend_name(text), markersize=3.5, linewidth=1.3, **styles[text])
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


def _styles(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A colour and a line per attack, a marker per direction, or per attack of one direction; controls in grey."""
    rows = frame[frame["attack"] != ""].drop_duplicates(["attack", "direction"])
    controls = list(dict.fromkeys(rows.loc[rows["control"].astype(bool), "attack"]))
    attacks = list(dict.fromkeys(rows.loc[~rows["control"].astype(bool), "attack"]))
    out: dict[str, dict[str, Any]] = {}
    for attack in controls:
        place = controls.index(attack)
        out[_line(attack, "control")] = {"color": GREYS[place % len(GREYS)], "linestyle": DASHES[place % len(DASHES)]}
    drawn = rows.loc[~rows["control"].astype(bool), ["attack", "direction"]]
    several = drawn["direction"].nunique() > 1
    for attack, direction in drawn.itertuples(index=False):
        place = attacks.index(attack)
        colour = PALETTE[place % len(PALETTE)]
        out[_line(attack, direction)] = {
            "color": colour,
            "linestyle": _LINES[place % len(_LINES)],
            "marker": _MARKERS.get(direction, "o") if several else MARKERS[place % len(MARKERS)],
            "markerfacecolor": "none" if direction == "up" and several else colour,
        }
    return out


def _line(attack: str, direction: str) -> str:
    name = short_names([attack])[attack]
    return f"{name} (control)" if direction == "control" else f"{name} {direction}"


def _names(frame: pd.DataFrame) -> list[str]:
    columns = (frame[name].astype(str) for name in ("metric", "defense", "threat", "source", "broken"))
    return [marked(scorer_text(*who), broken) for *who, broken in zip(*columns, strict=True)]
