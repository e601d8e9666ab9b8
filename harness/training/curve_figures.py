"""Pictures of trainings: loss and figures, Figure 5a and 5b of the BiRQA paper, validations.

Every picture holds all runs, a colour each; of noisy steps a running median is drawn over the raw values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.engine.drawing import (
    ALARM,
    GREYS,
    PALETTE,
    figure_width,
    legend_below,
    legend_name,
    lines_within,
    new_figure,
    plain_axes,
    save,
    side_by_side,
    title_above,
)
from harness.training.curves import Curves
from harness.training.measures import COLLAPSE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANCHORED = (
    "anchor_error",
    "spacing",
    "coverage",
    "hinge_max",
    "hinge_top",
    "bound",
    "worst",
    "largest",
    "slack",
    "realised_span",
)
"""Figures of recipes with anchors, which have pictures of their own."""
IDENTITY = (
    "The bound is an identity on the training batch: it holds for any predictions, those of a collapsed model too, "
    "and says nothing of robustness by itself."
)
FALLING = (
    "A falling hinge proves nothing by itself: predictions shrunk to a constant have none. Read it with the std ratio "
    f"below; under {COLLAPSE:g} the scale of the output has collapsed."
)
_SMOOTH = 40
"""One of so many parts of a training is what its running median looks at."""
_MOST = 3
"""Panels side by side."""
_LEAST = 1.6
"""Inches of one in print."""
_WORDS = {
    "gradient_norm": "gradient norm, before clipping",
    "spread": "std(prediction) / std(label)",
    "figure": "SROCC (2AFC accuracy of triplets)",
    "shift_up": "shift/σ, attacked up",
    "shift_down": "shift/σ, attacked down",
    "pair": "robust pair accuracy",
    "plcc": "PLCC",
    "mse": "MSE",
}


def draw_curves(curves: Sequence[Curves], folder: Path, formats: Sequence[str] = (), size: str = "page") -> list[Path]:
    """Write the pictures that there is something to draw of; returns their paths.

    ``training.png``: loss, figures, gradient norm and std ratio by step. ``figure5a.png``: anchor hinge, its maximum
    and top-k mean, with the std ratio. ``figure5b.png``: largest error against its bound, and the slack.
    ``validation.png``: SROCC, std ratio, and of robust validations the shifts and the robust pair accuracy.

    Args:
        curves: Of all trainings.
        folder: Where to write.
        formats: Also drawn for print, as ``NAME_SIZE.FORMAT``.
        size: Of those in print, "column" or "page".

    Raises:
        UserError: A file cannot be written.
    """
    makers: dict[str, Callable[[Sequence[Curves], float | None], Figure | None]] = {
        "training": _training,
        "figure5a": _figure_5a,
        "figure5b": _figure_5b,
        "validation": _validation,
    }
    paths = []
    for name, make in makers.items():
        figure = make(curves, None)
        if figure is None:
            continue
        paths += save(figure, folder / name, ["png"])
        printed = make(curves, figure_width(size)) if formats else None
        if printed is not None:
            paths += save(printed, folder / f"{name}_{size}", formats)
    return paths


def _training(curves: Sequence[Curves], wide: float | None) -> Figure | None:
    own = list(dict.fromkeys(name for one in curves for name in one.figures() if name not in ANCHORED))
    names = [name for name in ("loss", *own, "gradient_norm", "spread") if _has(curves, "steps", name)]
    title = "Training, step by step (running median over single steps)"
    return _grid(curves, "steps", names, title, wide) if names else None


def _validation(curves: Sequence[Curves], wide: float | None) -> Figure | None:
    names = [name for name in ("figure", "spread", "shift_up", "shift_down", "pair") if _has(curves, "history", name)]
    return _grid(curves, "history", names, "Validations during training", wide) if names else None


def _figure_5a(curves: Sequence[Curves], wide: float | None) -> Figure | None:
    kept = [one for one in curves if {"hinge_max", "hinge_top"} & set(one.figures())]
    if not kept:
        return None
    figure, axes = _stacked("Anchor loss over training, and whether the output keeps its scale", FALLING, wide)
    for one, colour in zip(kept, _colours(curves, kept), strict=True):
        _line(axes[0], one.steps, "hinge_max", colour, f"{one.name}: maximum", "-")
        _line(axes[0], one.steps, "hinge_top", colour, f"{one.name}: top-k mean (the loss)", "--")
        _line(axes[1], one.steps, "spread", colour, "", "-")
    axes[0].set_ylabel(lines_within("hinge of attacked images, over R", 1.6, 9), fontsize=9)
    axes[0].set_yscale("symlog", linthresh=1e-3)
    _spread_axis(axes[1])
    _finish(figure, axes)
    return figure


def _figure_5b(curves: Sequence[Curves], wide: float | None) -> Figure | None:
    kept = [one for one in curves if {"bound", "worst"} <= set(one.figures())]
    if not kept:
        return None
    figure, axes = _stacked(
        "Theorem 1 on training batches: largest error and its bound, in label units", IDENTITY, wide
    )
    for one, colour in zip(kept, _colours(curves, kept), strict=True):
        slack = one.steps.get("slack", one.steps["bound"] - one.steps["worst"])
        _line(axes[0], one.steps, "bound", colour, f"{one.name}: bound B", "--")
        _line(axes[0], one.steps, "worst", colour, f"{one.name}: largest error", "-")
        _line(axes[1], one.steps.assign(slack=slack), "slack", colour, "", "-")
    axes[0].set_ylabel("error, label units", fontsize=9)
    axes[1].set_ylabel("slack,\nbound − error", fontsize=9)
    axes[1].axhline(0, color=ALARM, linewidth=0.9, linestyle=":")
    axes[0].set_ylim(bottom=0)
    _finish(figure, axes)
    return figure


def _grid(curves: Sequence[Curves], table: str, names: Sequence[str], title: str, wide: float | None) -> Figure:
    """A panel per name, all runs in each."""
    width = min(len(names), side_by_side(wide, _LEAST, _MOST) if wide else _MOST)
    height = -(-len(names) // width)
    figure = new_figure(wide or 4.0 * width, 1.0 + (1.6 if wide else 2.4) * height)
    grid = figure.subplots(height, width, squeeze=False, sharex=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.set_visible(False)
            continue
        for one, colour in zip(curves, _colours(curves, curves), strict=True):
            frame = one.steps if table == "steps" else one.history
            _line(axes, frame, names[place], colour, one.name if place == 0 else "", "-", dots=table == "history")
        if names[place] == "spread":
            _spread_axis(axes)
        words = _WORDS.get(names[place], names[place].replace("_", " "))
        axes.set_title(lines_within(words, wide / width - 0.3, 8) if wide else words, fontsize=8 if wide else 9)
        axes.set_ylabel("")
        plain_axes(axes)
        if place + width >= len(names):
            axes.set_xlabel("step", fontsize=8)
            axes.set_xlim(left=0)  # one validation, at the last step, is no middle
            axes.xaxis.set_tick_params(labelbottom=True)
    title_above(figure, title, 11)
    legend_below(figure)
    return figure


def _stacked(title: str, under: str, wide: float | None) -> tuple[Figure, Sequence[Axes]]:
    """Two panels over one axis of steps, and a sentence under the title."""
    broad = wide or 7.5
    figure = new_figure(broad, max(5.2, 0.85 * broad))
    axes: Sequence[Axes] = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    title_above(figure, title, 9 if wide else 11)
    axes[0].set_title(
        lines_within(under, broad - 0.7, 7 if wide else 8), fontsize=7 if wide else 8, loc="left", color=GREYS[0]
    )
    return figure, axes


def _finish(figure: Figure, axes: Sequence[Axes]) -> None:
    axes[1].set_xlabel("step", fontsize=9)
    for one in axes:
        plain_axes(one)
    legend_below(figure)


def _line(axes: Axes, frame: pd.DataFrame, name: str, colour: str, label: str, style: str, dots: bool = False) -> None:
    """One curve: raw values faint, their running median over them; with `dots` the values alone."""
    if name not in frame:
        return
    known = frame[["step", name]].dropna()
    if dots or len(known) < _SMOOTH:
        marker = "o" if dots else None
        axes.plot(
            known["step"],
            known[name],
            color=colour,
            linestyle=style,
            label=legend_name(label),
            marker=marker,
            markersize=3,
        )
        return
    window = max(3, len(known) // _SMOOTH)
    middle = known[name].rolling(window, center=True, min_periods=1).median()
    axes.plot(known["step"], known[name], color=colour, linewidth=0.6, alpha=0.25)
    axes.plot(known["step"], middle, color=colour, linestyle=style, linewidth=1.5, label=legend_name(label))


def _spread_axis(axes: Axes) -> None:
    """From 0, with the alarm's line."""
    axes.set_ylabel("std(prediction)\n/ std(label)", fontsize=9)
    axes.axhline(COLLAPSE, color=ALARM, linewidth=0.9, linestyle=":")
    axes.annotate(
        f"alarm {COLLAPSE:g}",
        xy=(1, COLLAPSE),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        fontsize=7,
        color=ALARM,
        ha="right",
    )
    axes.set_ylim(bottom=0)


def _colours(curves: Sequence[Curves], kept: Sequence[Curves]) -> list[str]:
    """The colours of some runs: those that they have in every picture."""
    names = [one.name for one in curves]
    return [PALETTE[names.index(one.name) % len(PALETTE)] for one in kept]


def _has(curves: Sequence[Curves], table: str, name: str) -> bool:
    frames = (one.steps if table == "steps" else one.history for one in curves)
    return any(name in frame and bool(frame[name].notna().any()) for frame in frames)
