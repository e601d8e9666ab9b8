"""A figure of many attacks at one budget: a line for each, a mark for each direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = {
    "control": ("|", "#444444"),
    "up": ("^", "#0072b2"),
    "down": ("v", "#d55e00"),
    "mos_split": ("D", "#009e73"),
    "self_split": ("s", "#cc79a7"),
    "random_sign": ("o", "#e69f00"),
    "error": ("X", "#56b4e9"),
}
"""Direction -> marker and colour."""
_OTHER = ("D", "#009e73")


def draw_dots(
    title: str, names: Sequence[str], measures: Sequence[tuple[str, str, str, Sequence[pd.DataFrame]]], width: int
) -> Figure:
    """One panel per measure and scorer.

    Args:
        title: Above the figure.
        names: Scorers, one column of panels each; as many strips of columns as it takes.
        measures: (column of the value, column of the clean value or "", what it is called, rows of each scorer).
        width: Columns of panels side by side.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    whole = pd.concat([frame for *_, frames in measures for frame in frames])
    whole = whole[whole["attack"] != ""]
    attacks, directions = list(dict.fromkeys(whole["attack"])), list(dict.fromkeys(whole["direction"]))
    strips = -(-len(names) // width)
    tall = 0.8 + 0.17 * len(attacks)
    size = (2.8 + 2.6 * width, 0.9 + tall * strips * len(measures))
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.subplots(strips * len(measures), width, squeeze=False, sharey=True)
    for line, (value, clean, label, frames) in enumerate(measures):
        panels: list[Axes] = [grid[place // width * len(measures) + line][place % width] for place in range(len(names))]
        for axes, name, frame in zip(panels, names, frames, strict=True):
            axes.set_title(name if line == 0 else "", fontsize=9)
            axes.set_xlabel(label, fontsize=8)
            _panel(axes, frame, value, clean, attacks)
        low, high = min(axes.get_xlim()[0] for axes in panels), max(axes.get_xlim()[1] for axes in panels)
        for axes in panels:
            axes.set_xlim(low, high)
    for axes in grid.flat:
        if not axes.has_data():
            axes.set_visible(False)
    marks = [_mark(direction) for direction in directions]
    handles = [
        grid[0][0].plot([], [], linestyle="", marker=marker, color=colour, markersize=5)[0] for marker, colour in marks
    ]
    figure.legend(handles, directions, loc="outside lower center", ncols=len(directions), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    return figure


def _mark(direction: str) -> tuple[str, str]:
    return _MARKS.get(direction, _OTHER)


def _panel(axes: Axes, frame: pd.DataFrame, value: str, clean: str, attacks: Sequence[str]) -> None:
    start = float(frame[clean].dropna().iloc[0]) if clean and frame[clean].notna().any() else 0.0
    axes.axvline(start, color="#999999", linewidth=0.8, linestyle=":")
    ok = frame[(frame["state"] == "ok") & (frame["attack"] != "")]
    for direction, part in ok.groupby("direction", sort=False):
        marker, colour = _mark(str(direction))
        places = [attacks.index(attack) for attack in part["attack"]]
        axes.plot(
            part[value],
            places,
            linestyle="",
            marker=marker,
            color=colour,
            markersize=5,
            markeredgewidth=1.5,
            alpha=0.85,
        )
    axes.set_yticks(range(len(attacks)), attacks)
    axes.set_ylim(len(attacks) - 0.5, -0.5)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
