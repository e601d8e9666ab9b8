"""The table of how far quality moved, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.report.arrays import LOWERING_CONTROL, RAISING_CONTROL, Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    Layout,
    attack_of,
    budget_of,
    by_budget,
    direction_of,
    excess_text,
    figure_text,
    for_terminal,
    scorer_of,
    stated,
)
from harness.report.rows import Row
from harness.report.shifts import shift_rows
from harness.report.table import Table, make_table, table
from harness.statistics.directions import TRIPLETS
from harness.wording import FAILED, MISSING, number, significant


@table(
    "shift",
    place=30,
    explains="How far quality moved, in standard deviations of clean quality; the same for the controls, and what the "
    "attack did beyond them; costs.",
)
def shift_table(data: RunData, one: Evaluated) -> Table | None:
    """Shifts of quality in σ, beside those of the controls."""
    directions = data.directions_of(one.facts)
    rows = list(shift_rows(one, directions))
    if not rows:
        return None
    columns: dict[str, Callable[[Row], str]] = {
        "shift/σ": lambda row: figure_text(row, "shift_over_sigma", signed=True),
        "restore/σ": lambda row: _beside(row, f"{RAISING_CONTROL}_over_sigma", RAISING_CONTROL),
        "noise/σ": lambda row: _beside(row, f"{LOWERING_CONTROL}_over_sigma", LOWERING_CONTROL),
        "excess over restore": lambda row: excess_text(row, RAISING_CONTROL),
        "excess over noise": lambda row: excess_text(row, LOWERING_CONTROL),
        "after 8-bit rounding": lambda row: number(row["shift_over_sigma_8bit"], 2, True),
        "raw shift": lambda row: significant(row["raw_shift"]),
        "start kept": lambda row: MISSING if math.isnan(row["start_share"]) else f"{100 * row['start_share']:.0f} %",
        "forwards / backwards": lambda row: f"{row['forwards']:.4g} / {row['backwards']:.4g}",
        "ms": lambda row: number(row["milliseconds"], 0 if row["milliseconds"] >= 10 else 1),
    }
    labels = {"metric": scorer_of, "attack": attack_of, "direction": direction_of, "ε": budget_of}
    cells = tuple(
        (*(label(row) for label in labels.values()), *(stated(row, column) for column in columns.values()))
        for row in rows
    )
    full = Layout(
        (*labels, *columns),
        cells,
        len(labels),
        "restore/σ and noise/σ: how far the controls alone move quality along the row's direction; where a direction "
        "mixes both ways, restore over images pushed up and noise over images pushed down. Start kept: share of images "
        "where the attack found nothing better than the unattacked image. Forwards, backwards and milliseconds are per "
        "image.",
    )
    compact = by_budget(
        for_terminal(rows),
        {"direction": direction_of},
        None,
        lambda row: number(row["shift_over_sigma"], 1, True) + _compact_excess(row),
        compact=True,
    )
    proxy = one.facts.labels == "proxy" and bool({"mos_split", *TRIPLETS.values()} & set(directions))
    return make_table(
        "shift",
        one,
        data,
        "How far quality moved" + (" (who is raised or lowered goes by proxy labels)" if proxy else ""),
        "Mean movement of the score in standard deviations of its clean scores (σ), positive when it went the way the "
        "attack pushed; for controls, positive is up. In brackets or under “excess”: what is left after subtracting "
        "an honest control inside the same budget, restoring the reference for images pushed up and random noise for "
        "images pushed down.",
        rows,
        full,
        compact,
        directions,
    )


def _beside(row: Row, name: str, control: str) -> str:
    if row["control"] or math.isnan(row[name]):
        return FAILED if row[f"{control}_state"] == "failed" and not row["control"] else MISSING
    return number(row[name], 2, True)


def _compact_excess(row: Row) -> str:
    excess = row["excess_over_own_control"]
    return "" if math.isnan(excess) else f" ({number(excess, 1, True)})"
