"""The table of rank correlation with the opinions."""

from __future__ import annotations

import math

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    by_budget,
    direction_of,
    figure_text,
    for_terminal,
    plain_text,
)
from harness.report.measure import srocc_rows
from harness.report.rows import Row
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.wording import number


@table(
    "srocc",
    place=20,
    explains="Rank correlation of quality with the opinions, clean and attacked, with the mean shift beside it.",
)
def srocc_table(data: RunData, one: Evaluated) -> Table | None:
    """SROCC, clean and attacked; for pairs with opinions."""
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(srocc_rows(one, data.directions))
    full = by_budget(
        rows,
        {"direction": direction_of},
        ("clean SROCC", lambda row: figure_text(row, "clean_srocc", state=False)),
        lambda row: figure_text(row, "srocc", beside=_moved(row)),
    )
    compact = by_budget(
        for_terminal(rows),
        {"direction": direction_of},
        ("clean", lambda row: plain_text(row, "clean_srocc", state=False)),
        lambda row: f"{number(row['srocc'])} {_moved(row)}".rstrip(),
        compact=True,
    )
    return make_table(
        "srocc",
        one,
        data,
        f"SROCC with {labels_text(one)}",
        "Does the metric still rank images as "
        + ("the proxy" if one.facts.labels == "proxy" else "people")
        + " would after the attack? 1 is the same order, 0 no relation, −1 reversed. Beside each SROCC stands the mean "
        "shift of quality in standard deviations (σ), because a lift common to all images moves scores and not ranks.",
        rows,
        full,
        compact,
        data.directions,
        ASSUMPTION,
    )


def _moved(row: Row) -> str:
    """The shift beside a rank correlation; the lowest of several attacks' has none."""
    return "" if math.isnan(row["shift_over_sigma"]) else f"{number(row['shift_over_sigma'], 1, True)}σ"
