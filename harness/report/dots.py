"""A figure of many attacks at one budget: a line and a colour for each, a mark for each direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from harness.engine.drawing import (
    GREYS,
    GUIDE,
    legend_below,
    lines_within,
    new_figure,
    plain_axes,
    side_by_side,
    title_above,
)
from harness.report.colours import LIGHT, attack_colour, direction_mark
from harness.report.rows import CONTROL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST = 4
"""Panels side by side."""
_BESIDE, _LEAST = 1.2, 1.0
"""Inches in print: of the names of attacks, and of a panel."""


def draw_dots(
    title: str,
    names: Sequence[str],
    measures: Sequence[tuple[str, str, str, Sequence[pd.DataFrame]]],
    wide: float | None = None,
) -> Figure:
    """One panel per measure and scorer.

    Args:
        title: Above the figure.
        names: Scorers, one column of panels each; as many strips of columns as it takes.
        measures: (column of the value, column of the clean value or "", what it is called, rows of each scorer).
        wide: Inches in print; by default as many as the panels want on a screen.
    """
    whole = pd.concat([frame for *_, frames in measures for frame in frames])
    whole = whole[whole["attack"] != ""]
    attacks, directions = list(dict.fromkeys(whole["attack"])), list(dict.fromkeys(whole["direction"]))
    width = min(len(names), side_by_side(wide - _BESIDE, _LEAST, _MOST) if wide else _MOST)
    strips = -(-len(names) // width)
    tall = 0.8 + 0.17 * len(attacks)
    figure = new_figure(wide or 2.8 + 2.6 * width, 0.9 + tall * strips * len(measures))
    grid = figure.subplots(strips * len(measures), width, squeeze=False, sharey=True)
    for line, (value, clean, label, frames) in enumerate(measures):
        panels: list[Axes] = [grid[place // width * len(measures) + line][place % width] for place in range(len(names))]
        for axes, name, frame in zip(panels, names, frames, strict=True):
            heading = lines_within(name, (wide - _BESIDE) / width - 0.1, 8) if wide else name
            axes.set_title("" if line else heading, fontsize=8 if wide else 9)
            axes.set_xlabel(label, fontsize=8)
            _panel(axes, frame, value, clean, attacks)
        low, high = min(axes.get_xlim()[0] for axes in panels), max(axes.get_xlim()[1] for axes in panels)
        for axes in panels:
            axes.set_xlim(low, high)
    for axes in grid.flat:
        if not axes.has_data():
            axes.set_visible(False)
    known = {}
    for direction in directions:
        look = {"linestyle": "", "marker": direction_mark(direction), "color": GREYS[0], "markersize": 5}
        known[direction] = grid[0][0].plot([], [], **look)[0]
    legend_below(figure, known, most=len(directions))
    title_above(figure, title)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, value: str, clean: str, attacks: Sequence[str]) -> None:
    start = float(frame[clean].dropna().iloc[0]) if clean and frame[clean].notna().any() else 0.0
    axes.axvline(start, color=GUIDE, linewidth=0.8, linestyle=":")
    ok = frame[(frame["state"] == "ok") & (frame["attack"] != "")]
    for (direction, attack), part in ok.groupby(["direction", "attack"], sort=False):
        axes.plot(
            part[value],
            [attacks.index(attack)] * len(part),
            linestyle="",
            marker=direction_mark(str(direction)),
            color=GREYS[0] if direction == CONTROL else LIGHT[attack_colour(str(attack))],
            markersize=5,
            markeredgewidth=1.5,
            alpha=0.85,
        )
    axes.set_yticks(range(len(attacks)), attacks)
    axes.set_ylim(len(attacks) - 0.5, -0.5)
    plain_axes(axes, 7)
