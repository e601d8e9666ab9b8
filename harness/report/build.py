"""Records to tables: what each shows, and in which words."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from harness.report.adequacy import adequacy_table
from harness.report.arrays import LOWERING_CONTROL, RAISING_CONTROL, Evaluated, lay_out
from harness.report.attacks import attacks_table
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
    plain_text,
    scorer_of,
    stated,
)
from harness.report.masking import few_samples, verdict_table
from harness.report.measure import (
    CONTROL,
    Row,
    has_levels,
    ordering_rows,
    pair_accuracy_rows,
    shift_rows,
    srocc_rows,
    two_afc_rows,
)
from harness.report.per_type import per_type_table
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table
from harness.report.transfer import transfer_table
from harness.statistics.directions import TRIPLETS
from harness.suite.keys import TABLE_NAMES
from harness.wording import FAILED, MISSING, few, number, significant


def build_tables(data: RunData) -> list[Table]:
    """The tables a run asked for (all that apply when it asked for none), and its failures as a last table.

    Raises:
        ValueError: A table is asked for that does not exist.
    """
    unknown = sorted(set(data.tables) - set(TABLE_NAMES))
    if unknown:
        raise ValueError(f"unknown table {', '.join(unknown)}; tables are {', '.join(TABLE_NAMES)}")
    evaluated = lay_out(data)
    first = few_samples(data)
    makers: dict[str, Callable[[RunData, Evaluated], Table | None]] = {
        "attacks": attacks_table,
        "srocc": _srocc,
        "shift": _shift,
        "pair_accuracy": _pair_accuracy,
        "ordering": _ordering,
        "two_afc": _two_afc,
        "per_type": per_type_table,
        "transfer": transfer_table,
        "adequacy": adequacy_table,
        "verdicts": lambda data, one: verdict_table(data, one, first.get(one.name)),
    }
    tables = []
    for name in data.tables or TABLE_NAMES:
        made = (makers[name](data, one) for one in evaluated)
        tables += [table for table in made if table is not None and len(table.frame)]
    return tables + ([_failures(data)] if data.failures else [])


def _srocc(data: RunData, one: Evaluated) -> Table | None:
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(srocc_rows(one, data.directions))
    full = by_budget(
        rows,
        {"direction": direction_of},
        ("clean SROCC", lambda row: figure_text(row, "clean_srocc", state=False)),
        lambda row: figure_text(row, "srocc", beside=f"{number(row['shift_over_sigma'], 1, True)}σ"),
    )
    compact = by_budget(
        for_terminal(rows),
        {"direction": direction_of},
        ("clean", lambda row: plain_text(row, "clean_srocc", state=False)),
        lambda row: f"{number(row['srocc'])} {number(row['shift_over_sigma'], 1, True)}σ",
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


def _shift(data: RunData, one: Evaluated) -> Table | None:
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


def _pair_accuracy(data: RunData, one: Evaluated) -> Table | None:
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(pair_accuracy_rows(one))
    both = any(row["attacked"] == "both" and row["state"] != "missing" for row in rows)
    label = {"attacked": lambda row: row["attacked"] or MISSING}
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
        f"Pairs: opinions differ, margin 0. An equal score counts half, clean and attacked. {ASSUMPTION}",
    )


def _ordering(data: RunData, one: Evaluated) -> Table | None:
    if one.facts.kind != "pairs":
        return None
    rows = list(ordering_rows(one))
    names = {"L": "L: levels in order", "D": "D: below pristine"}
    full = by_budget(
        rows,
        {"test": lambda row: names[row["test"]]},
        ("clean", lambda row: figure_text(row, "clean_share", state=False)),
        lambda row: figure_text(row, "share"),
    )
    compact = by_budget(
        for_terminal(rows),
        {"test": lambda row: names[row["test"]]},
        ("clean", lambda row: plain_text(row, "clean_share", state=False)),
        lambda row: number(row["share"]),
        compact=True,
    )
    tests = "L: share of pairs of one reference and one distortion where the weaker level scores higher; attacked, the "
    tests += "weaker is lowered and the stronger raised. " if has_levels(one) else "weaker is lowered. "
    return make_table(
        "ordering",
        one,
        data,
        "Tests that need no opinions: order of distortion levels (L), distorted below pristine (D)",
        "Whose order is certain without asking people: more of the same distortion is worse (L), and a distorted image "
        "is worse than its pristine reference (D). 1 is always right, 0.5 a coin.",
        rows,
        full,
        compact,
        (),
        f"{tests}D: share of distorted images below the reference against itself; attacked, the distorted one is "
        "raised. An equal score counts half, clean and attacked.",
    )


def _two_afc(data: RunData, one: Evaluated) -> Table | None:
    if one.facts.kind != "triplets" or np.isnan(one.judge).all():
        return None
    (direction,) = data.directions_of(one.facts)
    rows = list(two_afc_rows(one, direction))
    proxy = one.facts.labels == "proxy"
    judges, who = ("a proxy judge (not people)", "the proxy judge") if proxy else ("people", "people")
    labels: dict[str, Callable[[Row], str]] = {
        "patch attacked": lambda row: row["attacked"] or MISSING,
        "figure": lambda row: row["kind"] + ("" if row["subset"] == "all" else f", {row['subset']}"),
    }
    full = by_budget(
        rows,
        labels,
        ("clean", lambda row: figure_text(row, "clean_accuracy", state=False)),
        lambda row: figure_text(row, "accuracy"),
    )
    told = ("", CONTROL, "both" if direction == "pair" else direction.replace("_", " "))
    short = [row for row in rows if row["subset"] == "all" and row["attacked"] in told]
    compact = by_budget(
        short,
        {"figure": labels["figure"]},
        ("clean", lambda row: plain_text(row, "clean_accuracy", state=False)),
        lambda row: number(row["accuracy"]),
        compact=True,
    )
    left_out = rows[0]["undecided"] if rows else 0
    return make_table(
        "two_afc",
        one,
        data,
        f"2AFC: agreement with {judges}",
        f"Of two patches, does the metric prefer the one {who} preferred?"
        " Hard: share of triplets on the majority's side. Soft: mean share of judgements agreed with, whose "
        "best possible value is below 1.",
        rows,
        full,
        compact,
        [direction],
        f"Hard leaves out {left_out} evenly split triplets (judge = 0.5). An equal score counts half. "
        "“all” weighs triplets equally, “macro” subsets.",
    )


def _failures(data: RunData) -> Table:
    """What went wrong, a row for each cause however many cells it took down; the frame has every cell."""
    frame = pd.DataFrame([(f.cell, f.sample, f.message) for f in data.failures], columns=["cell", "sample", "message"])
    rows = tuple(
        (str(message), few(part["sample"]), few(part["cell"])) for message, part in frame.groupby("message", sort=False)
    )
    layout = Layout(("message", "samples", "cells"), rows, 3)
    return Table(
        "failures",
        "",
        f"Failures: {len(frame)}",
        "Cells that could not be finished; the tables print “failed” for them instead of figures from partial data.",
        frame,
        layout,
        layout,
        "",
    )


def _beside(row: Row, name: str, control: str) -> str:
    if row["control"] or math.isnan(row[name]):
        return FAILED if row[f"{control}_state"] == "failed" and not row["control"] else MISSING
    return number(row[name], 2, True)


def _compact_excess(row: Row) -> str:
    excess = row["excess_over_own_control"]
    return "" if math.isnan(excess) else f" ({number(excess, 1, True)})"
