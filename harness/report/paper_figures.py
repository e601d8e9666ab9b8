"""Figures 3, 4 and 6 of the BiRQA paper, drawn from tables of figures; Figure 5 is `harness.training.curve_figures`.

Each takes a frame of numbers and returns a figure of one column's width, which `harness.engine.drawing.save` writes in
any size and format. What keeps a picture from meaning what the paper's does stands under it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.engine.drawing import (
    DASHES,
    FIGURE_WIDTHS,
    INK,
    MARKERS,
    PALETTE,
    legend_below,
    legend_name,
    new_figure,
    plain_axes,
    save,
)
from harness.engine.speed import PAPER_FORWARDS
from harness.errors import UserError
from harness.suite.cell_names import CLEAN
from harness.wording import NO_DEFENSE, budget_text, joined

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_figure3", "draw_figure4", "draw_figure6", "figure3_frame", "figure6_frame", "pareto", "save"]

PAPER_SETS = 301
"""Feature sets of Figure 4: 11 + 55 + 165 of one to three, and 70 of four of the eight that were kept."""
PAPER_CHECKS = 9
"""Both images alone and beside the chosen four, and each of the other seven features as a fifth."""
PAPER_SIZE = (1920, 1080)
_SMALL, _LABEL = 7, 8
_LARGEST = 260.0
"""Area of the largest marker, in square points."""
_LEAST_AREA = 14.0


def figure3_frame(speeds: pd.DataFrame, agreement: pd.DataFrame, dataset: str | None = None) -> pd.DataFrame:
    """What Figure 3 shows: of each timed metric its clean PLCC in a run.

    Args:
        speeds: A row per metric, as `robustiqa fps` writes.
        agreement: Frame of the table `agreement`.
        dataset: Label of the data set; may be left out where the table has one.

    Returns:
        The rows of `speeds` whose metric the run has, with plcc, plcc_low, plcc_high, dataset and labels.

    Raises:
        UserError: The table has several data sets or not this one, or no metric of it was timed.
    """
    known = list(dict.fromkeys(agreement["dataset"]))
    chosen = known[0] if dataset is None and len(known) == 1 else dataset
    if chosen not in known:
        raise UserError(
            f"Figure 3 is of one data set, and the table `agreement` has {joined(known)}. Name one of them."
        )
    rows = agreement[
        (agreement["dataset"] == chosen) & (agreement["attack"] == CLEAN) & (agreement["defense"] == NO_DEFENSE)
    ]
    found = speeds.merge(rows[["metric", "dataset", "labels", "plcc", "plcc_low", "plcc_high"]], on="metric")
    if found.empty:
        raise UserError(
            f"Figure 3: no metric was both timed ({joined([*speeds['metric']])}) and run on {chosen} "
            f"({joined(list(dict.fromkeys(rows['metric'])))}). Time metrics by the labels that the suite gives them."
        )
    return found


def draw_figure3(frame: pd.DataFrame) -> Figure:
    """FPS against PLCC, a marker per metric whose area grows with its number of parameters.

    Args:
        frame: Columns metric, plcc, fps, parameters; where there are fps_low, fps_high, plcc_low, plcc_high, bars are
            drawn; of dataset, labels, forwards, width, height, device, precision what is given stands under it.
    """
    figure, axes = _one_panel(1.1)
    ends = _bars(frame, "fps", "plcc")
    areas = _areas(frame["parameters"].to_numpy(float))
    for place, (row, area) in enumerate(zip(frame.to_dict("records"), areas, strict=True)):
        colour, cycle = PALETTE[place % len(PALETTE)], place // len(PALETTE)
        marker = MARKERS[(place + cycle) % len(MARKERS)]
        face = colour if row["parameters"] else "none"
        axes.errorbar(
            row["fps"], row["plcc"], **ends[place], fmt="none", ecolor=INK, alpha=0.55, elinewidth=0.7, zorder=4
        )
        axes.scatter(row["fps"], row["plcc"], area, c=face, edgecolors=colour, marker=marker, alpha=0.85, zorder=3)
        told = f"{row['metric']} ({_millions(row['parameters'])})"
        axes.plot([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=5, label=told)
    axes.set_xscale("log")
    axes.margins(0.12)
    axes.set_xlabel("pairs of images per second (FPS)", fontsize=_LABEL)
    axes.set_ylabel(f"PLCC{_with_labels(frame)}", fontsize=_LABEL)
    _plain_ticks(axes)
    legend_below(figure, points=_SMALL, note=_note(_notes_of_figure3(frame)))
    return figure


def _notes_of_figure3(frame: pd.DataFrame) -> Iterator[str]:
    yield "Area: number of parameters; hollow: none"
    if _has(frame, "fps_low"):
        yield "bars: quartiles of FPS"
    if _has(frame, "plcc_low"):
        yield "95 % intervals of PLCC"
    yield from _conditions(frame)


def draw_figure4(frame: pd.DataFrame, chosen: str = "ssim+info+color+lbp") -> Figure:
    """SROCC against FPS, a marker per feature set, the Pareto frontier as a line and the chosen set as a star.

    Args:
        frame: Columns set (names joined by +), kind ("1", "2", "3", "4", "raw", "raw + 4", "fifth"), srocc, fps; of
            dataset, labels, forwards, width, height, device, precision, steps what is given stands under it.
        chosen: The set that is marked.
    """
    figure, axes = _one_panel(1.2)
    frame = frame[frame["srocc"].notna() & frame["fps"].notna()].reset_index(drop=True)
    for place, kind in enumerate(kind for kind in _KINDS if (frame["kind"] == kind).any()):
        rows = frame[frame["kind"] == kind]
        style: dict[str, Any] = {"marker": MARKERS[place], "edgecolors": PALETTE[place], "linewidths": 0.8, "s": 14}
        axes.scatter(rows["fps"], rows["srocc"], facecolors="none", label=_KINDS[kind], **style)
    best = frame[pareto(frame["fps"].to_numpy(float), frame["srocc"].to_numpy(float))].sort_values("fps")
    axes.plot(
        best["fps"], best["srocc"], color=INK, linewidth=1, linestyle=DASHES[0], label="Pareto frontier", zorder=2
    )
    star = frame[frame["set"] == chosen]
    if len(star):
        axes.scatter(star["fps"], star["srocc"], 110, marker="*", color=INK, label="the paper's four", zorder=4)
    axes.margins(0.08)
    axes.set_xlabel("pairs of images per second (FPS)", fontsize=_LABEL)
    axes.set_ylabel(f"validation SROCC{_with_labels(frame)}", fontsize=_LABEL)
    _plain_ticks(axes)
    legend_below(figure, points=_SMALL, note=_note(_notes_of_figure4(frame)))
    return figure


_KINDS = {
    "1": "one feature",
    "2": "two",
    "3": "three",
    "4": "four",
    "raw": "both images alone",
    "raw + 4": "images and the four",
    "fifth": "the four and a fifth",
}


def _notes_of_figure4(frame: pd.DataFrame) -> Iterator[str]:
    among = int(frame["kind"].isin(["1", "2", "3", "4"]).sum())
    checks = len(frame) - among
    whole = f", not the paper's {PAPER_SETS} and {PAPER_CHECKS}" if among < PAPER_SETS else ""
    yield f"{among} feature sets and {checks} checks{whole}"
    if frame["set"].str.split("+").map(lambda names: "saliency" in names).any():
        yield "saliency is spectral residual, not the paper's network"
    if _has(frame, "collapsed") and (collapsed := int((frame["collapsed"] > 0).sum())):
        yield f"{collapsed} of them collapsed in training"
    if _has(frame, "steps"):
        yield f"{int(frame['steps'].max())} training steps each"
    yield from _conditions(frame)


def pareto(fps: npt.NDArray[np.float64], srocc: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which points no other one beats: at least as good in both and better in one; shapes [N]."""
    as_good = (fps[:, None] >= fps) & (srocc[:, None] >= srocc)
    better = as_good & ((fps[:, None] > fps) | (srocc[:, None] > srocc))
    beaten: npt.NDArray[np.bool_] = np.any(better, axis=0)
    return ~beaten


def figure6_frame(
    srocc: pd.DataFrame, *, attack: str = "fgsm", direction: str = "mos_split", trained: str = "aat", dataset: str = ""
) -> pd.DataFrame:
    """What Figure 6 shows, from a run's table `srocc`: a row per metric, training and budget, clean figures at 0.

    Args:
        srocc: Frame of the table.
        attack: Label of the attack.
        direction: Its direction.
        trained: Label of the trained weights among the run's defenses.
        dataset: Label of the data set; empty where the table has one.

    Returns:
        Columns metric, training ("base" or `trained`), eps, srocc, low, high, attack, direction, dataset, labels.

    Raises:
        UserError: The table has nothing of the kind, or several data sets.
    """
    known = list(dict.fromkeys(srocc["dataset"]))
    own = srocc[srocc["dataset"] == (dataset or known[0])]
    if (not dataset and len(known) > 1) or own.empty:
        raise UserError(f"Figure 6 is of one data set, and the table `srocc` has {joined(known)}. Name one of them.")
    rows = own[own["attack"] == attack]
    rows = rows[
        (rows["direction"] == direction) & rows["defense"].isin([NO_DEFENSE, trained]) & (rows["state"] == "ok")
    ]
    rows = rows[rows["threat"] != "transfer"]
    if rows.empty:
        raise UserError(
            f"Figure 6: the table `srocc` has no '{attack}' {direction}; it has {joined(sorted(set(own['attack'])))}, "
            f"{joined(sorted(set(own['direction'])))}. "
            "Name one of these, or add it to the suite and run that."
        )
    kept = ["metric", "training", "eps", "srocc", "low", "high", "attack", "direction", "dataset", "labels"]
    rows = rows.rename(columns={"defense": "training"})
    attacked = rows.rename(columns={"srocc_low": "low", "srocc_high": "high"})[kept]
    start = rows.drop_duplicates(["metric", "training"]).assign(eps=0.0).drop(columns=["srocc"])
    clean = start.rename(columns={"clean_srocc": "srocc", "clean_srocc_low": "low", "clean_srocc_high": "high"})[kept]
    return pd.concat([clean, attacked], ignore_index=True).sort_values("eps", kind="stable", ignore_index=True)


def draw_figure6(frame: pd.DataFrame) -> Figure:
    """SROCC against the budget, a colour per metric: solid without, dashed with training under attack.

    Args:
        frame: As `figure6_frame` returns; where low and high are known, the interval is a band.
    """
    figure, axes = _one_panel(1.1)
    metrics = list(dict.fromkeys(frame["metric"]))
    trainings = sorted(set(frame["training"]), key=lambda name: name != NO_DEFENSE)
    for place, metric in enumerate(metrics):
        for number, training in enumerate(trainings):
            line = frame[(frame["metric"] == metric) & (frame["training"] == training)].sort_values("eps")
            if line.empty:
                continue
            x, colour = line["eps"] * 255, PALETTE[place % len(PALETTE)]
            if _has(line, "low"):
                axes.fill_between(x, line["low"], line["high"], color=colour, alpha=0.1, linewidth=0)
            axes.plot(
                x,
                line["srocc"],
                color=colour,
                marker=MARKERS[place % len(MARKERS)],
                markerfacecolor=colour if number == 0 else "white",
                markersize=4,
                linewidth=1.3,
                linestyle=("-", *DASHES)[number % (1 + len(DASHES))],
                label=legend_name(metric if training == NO_DEFENSE else f"{metric}, {training}"),
            )
    radii = sorted(frame["eps"].unique())
    axes.set_xticks([255 * eps for eps in radii], ["0", *(budget_text("linf", eps) for eps in radii[1:])])
    first = frame.iloc[0]
    axes.set_xlabel(f"budget of {first['attack']} {first['direction']}, ℓ∞", fontsize=_LABEL)
    axes.set_ylabel(f"SROCC{_with_labels(frame)}", fontsize=_LABEL)
    plain_axes(axes, _SMALL)
    legend_below(figure, points=_SMALL, note=_note(_notes_of_figure6(frame)))
    return figure


def _notes_of_figure6(frame: pd.DataFrame) -> Iterator[str]:
    if _has(frame, "low"):
        yield "Bands: 95 % intervals"
    yield from _conditions(frame)


def _one_panel(share: float) -> tuple[Figure, Axes]:
    """One panel, a column wide and so many times as tall."""
    figure = new_figure(FIGURE_WIDTHS["column"], share * FIGURE_WIDTHS["column"])
    return figure, figure.subplots()


def _conditions(frame: pd.DataFrame) -> Iterator[str]:
    """What of data, images and machine the picture holds for, and where that is not what the paper did."""
    if _has(frame, "dataset"):
        yield f"on {joined(list(dict.fromkeys(frame['dataset'])))}"
    if _has(frame, "forwards"):
        forwards = int(frame["forwards"].min())
        yield f"FPS of {forwards} forwards" + (
            "" if forwards >= PAPER_FORWARDS else f", not the paper's {PAPER_FORWARDS}"
        )
    if _has(frame, "width"):
        sizes = list(dict.fromkeys(zip(frame["width"].astype(int), frame["height"].astype(int), strict=True)))
        told = joined([f"{wide} x {tall}" for wide, tall in sizes])
        yield told + ("" if sizes == [PAPER_SIZE] else ", not 1920 x 1080")
    if _has(frame, "device"):
        yield joined(list(dict.fromkeys(frame["device"])))
    if _has(frame, "precision"):
        yield joined(list(dict.fromkeys(frame["precision"])))


def _note(parts: Iterator[str]) -> str:
    """What stands under a picture, as one sentence; empty where there is nothing to say."""
    text = "; ".join(parts)
    return f"{text}." if text else ""


def _has(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and bool(frame[name].notna().any())


def _with_labels(frame: pd.DataFrame) -> str:
    return " with proxy" if _has(frame, "labels") and "proxy" in set(frame["labels"]) else ""


def _millions(count: float) -> str:
    """'5.42 M', '96 k', 'none'."""
    if not count:
        return "none"
    return f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count / 1e3:.3g} k"


def _areas(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Areas of markers, in square points: in proportion to the parameters, but never too small to be seen."""
    shares = parameters / max(1.0, parameters.max(initial=0.0))
    areas: npt.NDArray[np.float64] = np.maximum(_LEAST_AREA, _LARGEST * shares)
    return areas


def _bars(frame: pd.DataFrame, x: str, y: str) -> Sequence[dict[str, Any]]:
    """Of each row the lengths of its error bars."""
    rows = []
    for row in frame.to_dict("records"):
        ends = {}
        for name, key in ((x, "xerr"), (y, "yerr")):
            low, high = row.get(f"{name}_low", np.nan), row.get(f"{name}_high", np.nan)
            if np.isfinite([low, high]).all():
                ends[key] = [[max(0.0, row[name] - low)], [max(0.0, high - row[name])]]
        rows.append(ends)
    return rows


def _plain_ticks(axes: Axes) -> None:
    """Numbers as people write them, on a logarithmic axis too."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain_axes(axes, _SMALL)
    if axes.get_xscale() == "log":
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
