"""The table of verdicts on gradient masking."""

from __future__ import annotations

import dataclasses

import pandas as pd

from harness.report.arrays import Evaluated, lay_out
from harness.report.data import RunData
from harness.report.layout import Layout, scorer_of
from harness.report.masking import CLAIMS, NOT_MEASURED, verdict_rows
from harness.report.measure import Row
from harness.report.table import Table, make_table, table
from harness.statistics.masking import EDGES, REACHED, SHARE, TOLERANCE
from harness.wording import MISSING, attack_text, budget_text, number, with_interval


@table(
    "verdicts",
    place=100,
    explains="Signs of gradient masking: seven orders between attacks that hold unless gradients mislead, each passed, "
    "failed or not measured, with the figure that decided.",
)
def verdicts_table(data: RunData, one: Evaluated) -> Table | None:
    """The verdicts of one data set, or None where nothing was attacked or none are wanted."""
    few = _few_samples(data, one.name)
    attacked = any(not setting.control for scorer in one.scorers for setting in scorer.settings)
    if not data.verdicts or not (attacked or few):
        return None
    rows = list(verdict_rows(data, one, few))
    header = ("metric", "verdict", "", "figure that decided", "least allowed", "of", "images")
    full = Layout(
        header,
        tuple(
            (scorer_of(row), row["claim"], row["outcome"], *_figure_texts(row), _pair(row), str(row["images"]))
            if row["outcome"] != NOT_MEASURED
            else (scorer_of(row), row["claim"], NOT_MEASURED, MISSING, MISSING, f"would take {row['needs']}", MISSING)
            for row in rows
        ),
        3,
        "Figures are differences of mean shift in σ, paired over images, of the comparison that comes closest to "
        "failing among all budgets and both endpoints. One fails where its whole interval lies below the least "
        f"allowed, −({TOLERANCE} σ + {100 * SHARE:.0f} % of the other's shift). Unbounded: share of images that pgd at "
        f"ε 1, from the image itself, drives past the {100 * EDGES[0]:.0f} % (down) or {100 * EDGES[1]:.0f} % (up) "
        f"quantile of clean quality; least allowed is {REACHED}. Judged is pgd (apgd without it) at budgets where its "
        "steps cross the ball (ε from the image itself, 2 ε from a random start) and each is at most half of ε. A pgd "
        "that is merely too weak fails too: give it more steps before believing in masking. Nothing is corrected for "
        "the number of comparisons.",
    )
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        short = MISSING if row["outcome"] == NOT_MEASURED else str(row["outcome"])
        lines.setdefault(scorer_of(row), {})[row["verdict"]] = short
    none = all(row["outcome"] == NOT_MEASURED for row in rows)
    compact = Layout(
        ("metric", *(claim.short for claim in CLAIMS)),
        () if none else tuple((name, *(cells[claim.name] for claim in CLAIMS)) for name, cells in lines.items()),
        1,
        "None could be measured; the page says what each would take."
        if none
        else f"{MISSING}: not measured; the page says what it would take, and has the figures."
        if any(row["outcome"] == NOT_MEASURED for row in rows)
        else "The page has the figures.",
    )
    added = [f"Cells added for verdicts: first {data.verdict_samples} samples."] if few else []
    return make_table(
        "verdicts",
        one,
        data,
        "Do gradients mislead? Verdicts on masking",
        "Orders between attacks that hold unless gradients mislead. A failed one says that the metric may look robust "
        "because the attack is weak; a passed one only that nothing speaks against the attack.",
        rows,
        full,
        compact,
        (),
        *added,
    )


def _figure_texts(row: Row) -> tuple[str, str]:
    share = row["unit"] == "share"
    text = with_interval(row["figure"], row["figure_low"], row["figure_high"], 2, not share)
    return text + ("" if share else " σ"), number(row["least"], 2, not share)


def _pair(row: Row) -> str:
    attack = f"{attack_text(row['attack'], row['norm'])} {row['direction']} {budget_text(row['norm'], row['eps'])}"
    return f"{attack} against {row['against']}"


def _few_samples(data: RunData, dataset: str) -> Evaluated | None:
    """The first samples of a data set, with the cells added for verdicts beside the suite's own; None without any."""
    if not data.verdict_samples:
        return None
    wanted = set(data.verdict_items.get(dataset, ()))
    own = data.records
    kept = own[(own["dataset"] == dataset) & own["sample"].isin(wanted)]
    added = data.verdict_records
    parts = [part for part in (kept, added[added["dataset"] == dataset] if len(added) else added) if len(part)]
    if not parts:
        return None
    found = lay_out(dataclasses.replace(data, records=pd.concat(parts, ignore_index=True)))
    return found[0] if found else None
