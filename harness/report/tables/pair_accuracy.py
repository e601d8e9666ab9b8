"""The table of robust pair accuracy."""

from __future__ import annotations

from harness.report.arrays import HONEST, Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    by_budget,
    figure_text,
    for_terminal,
    plain_text,
)
from harness.report.measure import pair_accuracy_rows
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.wording import MISSING, number

NO_BOUND = (
    "Honest reference: no attack, but what an honest change inside the same ball does, the reference restored where "
    "quality is to be raised and random noise where it is to be lowered. It is no strict ceiling, because a metric may "
    "ignore part of either; but an attacker has both for nothing, and a metric that sees them as people do loses by it."
)


@table(
    "pair_accuracy",
    place=40,
    explains="Of two images, how often the one with the better opinion keeps the higher score under attack.",
)
def pair_accuracy_table(data: RunData, one: Evaluated) -> Table | None:
    """Robust pair accuracy; for pairs with opinions."""
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(pair_accuracy_rows(one))
    both = any(row["attacked"] == "both" and row["state"] != "missing" for row in rows)
    label = {"attacked": lambda row: row["attacked"] or MISSING}
    honest = any(row["attack"] == HONEST for row in rows)
    clean = lambda row: figure_text(row, "clean_accuracy", state=False)  # noqa: E731
    full = by_budget(rows, label, ("clean", clean), lambda row: figure_text(row, "accuracy"))
    compact = by_budget(
        [row for row in for_terminal(rows) if row["attacked"] in ("", "both" if both else "worse one up")],
        label,
        ("clean", lambda row: plain_text(row, "clean_accuracy", state=False)),
        lambda row: number(row["accuracy"]),
        compact=True,
    )
    return make_table(
        "pair_accuracy",
        one,
        data,
        f"Robust pair accuracy against {labels_text(one)}",
        "Of two images, how often does the one with the better "
        + ("proxy label" if one.facts.labels == "proxy" else "opinion score")
        + " keep the higher score when the attacker lowers it and raises the other (both)? 1 is always, 0.5 a coin. "
        "The page and the CSV also have only one of the two attacked.",
        rows,
        full,
        compact,
        (),
        f"Pairs: {_pairs_of(one.margin)}. An equal score counts half, clean and attacked. {ASSUMPTION}",
        NO_BOUND if honest else "",
    )


def _pairs_of(margin: float) -> str:
    """Which pairs count."""
    return f"opinions in [0, 1] differ by more than {margin:g}" if margin else "opinions differ, margin 0"
