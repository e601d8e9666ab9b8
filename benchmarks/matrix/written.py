"""What the analysis leaves: Markdown, CSV and one PNG."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from analysing import (
    PRIMARY,
    SCALES,
    Images,
    all_figures,
    arm_rows,
    collapsed,
    contrast_rows,
    cost_rows,
    masking_rows,
    read_outcomes,
)
from cells import CHOICE, Work
from declared import BASE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.engine.drawing import GREYS, PALETTE
from harness.files import write_whole

_WIDE = ("clean SROCC", PRIMARY, "pair accuracy, attacked, labels far apart", "pair accuracy, honest")
"""Figures that stand with their intervals in the first table."""
_DRAWN = ("clean SROCC", PRIMARY, "shift/σ up", "shift/σ down", "noise/σ", "std ratio")
_BESIDE = {PRIMARY: "pair accuracy, honest", "shift/σ up": "restore/σ"}
"""Figure -> the honest one drawn beside it."""


def write_analysis(work: Work) -> Path:
    """Analyse the records and write ``analysis.md``, CSV files and ``arms.png``; returns the Markdown file."""
    images, outcomes = read_outcomes(work, "evaluation")
    found = all_figures(images, outcomes)
    tables = {
        "arms": pd.DataFrame(arm_rows(images, found)),
        "contrasts": pd.DataFrame(contrast_rows(work, images, found)),
        "masking": pd.DataFrame(masking_rows(work) if (work.folder / "check").is_dir() else ()),
        "costs": pd.DataFrame(cost_rows(work)),
    }
    folder = work.folder / "analysis"
    folder.mkdir(exist_ok=True)
    for name, table in tables.items():
        if len(table):
            write_whole(folder / f"{name}.csv", table.to_csv(index=False, float_format="%.6g").encode())
    _draw(tables["arms"], images, folder / "arms.png")
    text = "\n".join(_sections(work, images, tables, collapsed(work, found)))
    write_whole(folder / "analysis.md", text.encode())
    return folder / "analysis.md"


def _sections(work: Work, images: Images, tables: Mapping[str, pd.DataFrame], fallen: Sequence[str]) -> list[str]:
    matrix, arms = work.matrix, tables["arms"]
    members = f"{matrix.members.count} {matrix.members.word}s"
    text = [
        f"# {matrix.name}\n",
        f"{matrix.metric.name}, {len(images.opinion)} images of {images.clusters} {images.name}s, {members}. Robust "
        "figures are against the furthest that any attack or control inside the ball reached, image by image. "
        "Brackets: 95 % intervals "
        + (
            f"over {images.name}s and over seeds, the squared distances of both levels' ends added (MOVER); with one "
            "seed over images alone, marked °."
            if matrix.members.seeds
            else f"over {images.name}s; every image is scored by the member that has never seen it, and what another "
            "training would give is not in them."
        )
        + "\n",
        "**Honest** is the pair accuracy where the worse image is restored and the better one gets random noise in "
        "the same ball: what can be asked of a metric that tells real changes, and no bound.\n",
        f"Collapsed in scale (std ratio below .2): {', '.join(fallen) or 'none'}.\n",
        f"Dropped to end in time: {', '.join(work.dropped) or 'nothing'}. "
        f"Not trained: {', '.join(work.untrained()) or 'nothing'}.\n",
        _rate_told(work),
        "## Arms\n",
        _markdown(_pivot(arms, _WIDE, mark="°" if matrix.members.seeds else "")),
        _markdown(_pivot(arms, [name for name in SCALES if name not in _WIDE], mark=None)),
    ]
    if len(tables["contrasts"]):
        text += ["## Contrasts that the matrix file declares\n", _markdown(_contrasts(tables["contrasts"]))]
        text += ["p and Holm's adjustment are of the robust pair accuracy alone; other figures stand beside it.\n"]
    if len(tables["masking"]):
        text += ["## Check on masking\n", _masking_told(tables["masking"]), _markdown(_rounded(tables["masking"]))]
    return [*text, "## Costs\n", _markdown(_rounded(tables["costs"]))]


def _rate_told(work: Work) -> str:
    path = work.folder / CHOICE
    if not path.is_file():
        return ""
    choice: dict[str, Any] = json.loads(path.read_text())
    told = "; ".join(
        f"{n.removeprefix('rate-')} {e['pair']:.3f} at SROCC {e['srocc']:.3f}" for n, e in choice["found"].items()
    )
    fallback = " None kept it, so the lowest was taken." if choice["none_kept"] else ""
    return f"Learning rate {choice['learning_rate']:g}: {choice['rule']} ({told}).{fallback}\n"


def _pivot(arms: pd.DataFrame, names: Sequence[str], mark: str | None) -> pd.DataFrame:
    """A line per arm; with a mark, which intervals of one training have, figures stand with their intervals."""
    rows = []
    for arm, own in arms.groupby("arm", sort=False):
        row = {"arm": str(arm), "members": str(own["members"].iloc[0])}
        for name in names:
            one = own[own["figure"] == name].iloc[0]
            ends = f" [{_number(one['low'])}, {_number(one['high'])}]{mark if one['members'] == 1 else ''}"
            row[name] = _number(one["value"]) + (ends if mark is not None else "")
        rows.append(row)
    return pd.DataFrame(rows)


def _contrasts(table: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (asks, name), own in table.groupby(["asks", "contrast"], sort=False):
        row = {"asks": str(asks), "contrast": str(name), "members": str(own["members"].iloc[0])}
        for _, one in own.iterrows():
            known = "value" in one and not pd.isna(one["value"])
            row[one["figure"]] = (
                f"{one['value']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]" if known else "not trained"
            )
        first = own.iloc[0]
        row |= {"p": _number(first.get("p")), "p, Holm": _number(first.get("p_holm"))}
        rows.append(row)
    return pd.DataFrame(rows)


def _masking_told(table: pd.DataFrame) -> str:
    worst = table.sort_values("difference/σ").iloc[0]
    failed = table[table["outcome"] == "FAIL"]
    names = ", ".join(f"{row.arm} {row.endpoint} against {row.attack}" for row in failed.itertuples())
    return (
        "What the evaluation reached, against further attacks on the same images: difference of mean shifts, in "
        f"standard deviations of clean quality. The evaluation is the weaker one beyond what is allowed: "
        f"{names or 'nowhere'}. "
        f"Lowest difference {worst['difference/σ']:+.3f} ({worst['arm']}, {worst['endpoint']}, {worst['attack']}).\n"
    )


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda value: _number(value) if isinstance(value, float) else str(value))


def _number(value: float | None) -> str:
    if value is None or pd.isna(value):
        return "-"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def _draw(arms: pd.DataFrame, images: Images, path: Path) -> None:
    """One panel per figure, one line per arm: every member a dot, the mean with its interval, the honest one hollow."""
    names = list(dict.fromkeys(arms["arm"]))
    columns = 3
    figure = Figure(figsize=(13, 1.6 + 0.55 * len(names)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    grid = figure.subplots(math.ceil(len(_DRAWN) / columns), columns, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, _DRAWN, strict=False):
        for line, arm in enumerate(names):
            of = arms[arms["arm"] == arm].set_index("figure")
            one, colour = of.loc[name], GREYS[0] if arm == BASE else PALETTE[0]
            axes.plot([one["low"], one["high"]], [line, line], color=colour, linewidth=1.5, alpha=0.7)
            each = [float(value) for value in one["each"].split()]
            axes.plot(each, [line] * len(each), ".", color=colour, markersize=5, alpha=0.5)
            axes.plot(one["value"], line, "o", color=colour, markersize=6)
            if name in _BESIDE:
                axes.plot(
                    of.loc[_BESIDE[name], "value"], line, "D", color=PALETTE[1], markerfacecolor="none", markersize=6
                )
        axes.set_title(name + (f"  (◇ {_BESIDE[name]})" if name in _BESIDE else ""), fontsize=9)
        axes.grid(axis="x", alpha=0.3)
        axes.set_yticks(range(len(names)), names, fontsize=9)
    grid[0][0].invert_yaxis()
    figure.suptitle(
        f"{len(images.opinion)} images of {images.clusters} {images.name}s; bars: 95 % intervals; small dots: members",
        fontsize=10,
    )
    figure.savefig(path)
