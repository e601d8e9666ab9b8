"""The table of verdicts on gradient masking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import Layout, scorer_of
from harness.report.masking import CLAIMS, INCONCLUSIVE, NOT_MEASURED, few_samples, verdicts_of
from harness.report.rows import Row
from harness.report.table import Table, make_table, table
from harness.statistics.bootstrap import Floats
from harness.statistics.masking import EDGES, FORETOLD, GRID_SHARE, MISLED, REACHED, SHARE, SLOPED, TOLERANCE
from harness.wording import MISSING, attack_text, budget_text, number, scorer_text, with_interval


@table(
    "verdicts",
    place=100,
    explains="Signs of gradient masking: orders between attacks and traits of gradients that hold unless gradients "
    "mislead, each passed, failed, inconclusive or not measured, with the figure that decided.",
)
def verdicts_table(data: RunData, one: Evaluated) -> Table | None:
    """The verdicts of one data set, or None where nothing was attacked or none are wanted."""
    rows = verdicts_of(data, one)
    if not rows:
        return None
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
        "Figures are differences of mean shift in σ, paired over images, of the comparison that speaks most against "
        "the claim among all budgets and both endpoints. One passes where its whole interval lies above the least "
        f"allowed, −({TOLERANCE} σ + {100 * SHARE:.0f} % of the other's shift), fails where all of it lies below, and "
        f"is inconclusive in between ({100 * GRID_SHARE:.0f} % between pgd and its twin on the 8-bit grid). Unbounded: "
        "share of images that pgd at "
        f"ε 1, from the image itself, drives past the {100 * EDGES[0]:.0f} % (down) or {100 * EDGES[1]:.0f} % (up) "
        f"quantile of clean quality; least allowed is {REACHED}. Not zero: share of images with a gradient at half of "
        f"the evaluations or more; least {SLOPED}. Foretell: share of images whose gradients, along the attack's own "
        f"path, are off from central differences of the score by at most {100 * MISLED:.0f} %; least {FORETOLD}. "
        "Judged is pgd (apgd without it, a black-box attack where there is no gradient) at budgets where its "
        "steps cross the ball (ε from the image itself, 2 ε from a random start) and each is at most half of ε. A pgd "
        "that is merely too weak fails too: give it more steps before believing in masking. One that fails “at least "
        "restore” stops short of the nearest image to the reference, which lies in its ball: its upward figures are "
        "too good; start it there (start: reference), or take apgd or more and smaller steps. Nothing is corrected for "
        "the number of comparisons." + _zeros(data, one),
    )
    lines: dict[str, dict[str, str]] = {}
    for row in rows:
        short = {NOT_MEASURED: MISSING, INCONCLUSIVE: "?"}.get(row["outcome"], str(row["outcome"]))
        lines.setdefault(scorer_of(row), {})[row["verdict"]] = short
    known = {row["verdict"] for row in rows if row["outcome"] != NOT_MEASURED}
    shown = [claim for claim in CLAIMS if claim.name in known]
    compact = Layout(
        ("metric", *(claim.short for claim in shown)),
        tuple((name, *(cells[claim.name] for claim in shown)) for name, cells in lines.items()) if shown else (),
        1,
        _legend(rows, [claim.short for claim in CLAIMS if claim.name not in known]),
    )
    added = [f"Cells added for verdicts: first {data.verdict_samples} samples."] if few_samples(data, one) else []
    return make_table(
        "verdicts",
        one,
        data,
        "Do gradients mislead? Verdicts on masking",
        "Orders between attacks and traits of gradients that hold unless gradients mislead. A failed one says that the "
        "metric may look robust because the attack is weak; a passed one only that nothing speaks against the attack; "
        "an inconclusive one that there are too few images to tell.",
        rows,
        full,
        compact,
        (),
        *added,
    )


def _legend(rows: Sequence[Row], unmeasured: Sequence[str]) -> str:
    """What the marks of the compact table mean, and which claims it leaves out."""
    outcomes = {row["outcome"] for row in rows}
    if outcomes == {NOT_MEASURED}:
        return "None could be measured; the page says what each would take."
    told = ["?: inconclusive; more images would tell."] if INCONCLUSIVE in outcomes else []
    if NOT_MEASURED in outcomes:
        told += [f"{MISSING}: not measured; the page says what it would take, and has the figures."]
    told += [f"Not measured for any: {', '.join(unmeasured)}."] if unmeasured else []
    return " ".join(told) if told else "The page has the figures."


_COUNTED = ["backwards", "zero_gradients", "constant_gradients"]


def _zeros(data: RunData, one: Evaluated) -> str:
    """How many of the gradients that attacks took were zero, or the same at two images, where any were."""
    rows = data.cell_rows(one.name)
    counts: dict[tuple[str, ...], Floats] = {}
    for cell, index in rows.cells.items():
        if cell.threat != "transfer":
            counted = np.array([np.nansum(rows.numbers(name)[index]) for name in _COUNTED])
            counts[cell.who] = counts.get(cell.who, 0.0) + counted
    told = []
    for who, (every, zero, same) in counts.items():
        if zero or same:
            told.append(f"{scorer_text(*who)} {_percent(zero / every)} zero, {_percent(same / every)} constant")
    if not told:
        return " No gradient was zero, and none the same at two images in a row."
    return f" Of all gradients: {'; '.join(told)} (constant: the same at two images in a row, as a linear score's)."


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _figure_texts(row: Row) -> tuple[str, str]:
    share = row["unit"] == "share"
    text = with_interval(row["figure"], row["figure_low"], row["figure_high"], 2, not share)
    return text + ("" if share else " σ"), number(row["least"], 2, not share)


def _pair(row: Row) -> str:
    attack = f"{attack_text(row['attack'], row['norm'])} {row['direction']} {budget_text(row['norm'], row['eps'])}"
    return f"{attack} against {row['against']}"
