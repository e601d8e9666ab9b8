"""Records to tables: what is shown, how it is laid out, and the protocol line under it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.report.arrays import LOWERING_CONTROL, RAISING_CONTROL, Evaluated, lay_out
from harness.report.data import RunData
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
from harness.report.words import (
    BROKEN,
    FAILED,
    MISSING,
    attack_text,
    budget_text,
    few,
    marked,
    number,
    scorer_text,
    short_names,
    significant,
    with_interval,
)
from harness.statistics.bootstrap import DESCRIPTIVE_BELOW

TABLE_NAMES = ("srocc", "shift", "pair_accuracy", "ordering", "two_afc")
"""Names a suite may ask for under ``tables:``."""

ASSUMPTION = "Opinions are taken not to change within the budget."

_DIRECTIONS = {
    "up": "up = quality raised",
    "down": "down = quality lowered",
    "mos_split": "mos_split = raised where {labels} is at or below the mean of the whole split, lowered above it",
    "self_split": "self_split = raised where the metric's own clean score is at or below its median, lowered above it",
    "error": "error = |Q̂ − y| raised, y being {labels} and Q̂ its least-squares line from the metric's quality on the "
    "calibration samples; a shift counts as positive on the side of y that the image starts on",
    "random_sign": "random_sign = raised or lowered by a fair coin per sample",
    "pair": "pair = the patch that the judge rejected raised, the one it preferred lowered",
}
_THREATS = {
    "oblivious": "oblivious = attacked without the defense, scored with it",
    "adaptive": "adaptive = attacked through the defense",
    "transfer": "transfer = attacked on another metric",
}


@dataclass(frozen=True)
class Layout:
    """A table as people read it: the first `labels` columns name a row, the others hold figures."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    note: str = ""
    """What only this form of the table needs explained."""


@dataclass(frozen=True)
class Table:
    """One table of one data set."""

    name: str
    dataset: str
    title: str
    explanation: str
    frame: pd.DataFrame
    """Every figure as a number, one row per scorer, attack, direction and budget."""
    full: Layout
    """With intervals, for pages."""
    compact: Layout
    """Without, at most about 100 characters wide, for the terminal."""
    protocol: str
    notes: tuple[str, ...] = ()


def build_tables(data: RunData) -> list[Table]:
    """The tables a run asked for (all that apply when it asked for none), and its failures as a last table.

    Raises:
        ValueError: A table is asked for that does not exist.
    """
    unknown = sorted(set(data.tables) - set(TABLE_NAMES))
    if unknown:
        raise ValueError(f"unknown table {', '.join(unknown)}; tables are {', '.join(TABLE_NAMES)}")
    evaluated = lay_out(data)
    makers = {
        "srocc": _srocc,
        "shift": _shift,
        "pair_accuracy": _pair_accuracy,
        "ordering": _ordering,
        "two_afc": _two_afc,
    }
    tables = []
    for name in data.tables or TABLE_NAMES:
        made = (makers[name](data, one) for one in evaluated)
        tables += [table for table in made if table is not None and len(table.frame)]
    return tables + ([_failures(data)] if data.failures else [])


def _srocc(data: RunData, one: Evaluated) -> Table | None:
    if one.facts.kind != "pairs" or not _has_opinions(one):
        return None
    rows = list(srocc_rows(one, data.directions))
    full = _by_budget(
        rows,
        {"direction": _direction},
        ("clean SROCC", lambda row: _figure(row, "clean_srocc", state=False)),
        lambda row: _figure(row, "srocc", beside=f"{number(row['shift_over_sigma'], 1, True)}σ"),
    )
    compact = _by_budget(
        rows,
        {"direction": _direction},
        ("clean", lambda row: _plain(row, "clean_srocc", state=False)),
        lambda row: f"{number(row['srocc'])} {number(row['shift_over_sigma'], 1, True)}σ",
        compact=True,
    )
    return _table(
        "srocc",
        one,
        data,
        f"SROCC with {_labels(one)}",
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
    directions = data.directions if one.facts.kind == "pairs" else ["pair"]
    rows = list(shift_rows(one, directions))
    if not rows:
        return None
    columns: dict[str, Callable[[Row], str]] = {
        "shift/σ": lambda row: _figure(row, "shift_over_sigma", signed=True),
        "restore/σ": lambda row: _beside(row, f"{RAISING_CONTROL}_over_sigma", RAISING_CONTROL),
        "noise/σ": lambda row: _beside(row, f"{LOWERING_CONTROL}_over_sigma", LOWERING_CONTROL),
        "excess over restore": lambda row: _beyond(row, RAISING_CONTROL),
        "excess over noise": lambda row: _beyond(row, LOWERING_CONTROL),
        "after 8-bit rounding": lambda row: number(row["shift_over_sigma_8bit"], 2, True),
        "raw shift": lambda row: significant(row["raw_shift"]),
        "start kept": lambda row: MISSING if math.isnan(row["start_share"]) else f"{100 * row['start_share']:.0f} %",
        "forwards / backwards": lambda row: f"{row['forwards']:.4g} / {row['backwards']:.4g}",
        "ms": lambda row: number(row["milliseconds"], 0 if row["milliseconds"] >= 10 else 1),
    }
    labels = {"metric": _scorer, "attack": _attack, "direction": _direction, "ε": _budget}
    cells = tuple(
        (*(label(row) for label in labels.values()), *(_stated(row, column) for column in columns.values()))
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
    compact = _by_budget(
        rows,
        {"direction": _direction},
        None,
        lambda row: number(row["shift_over_sigma"], 1, True) + _compact_excess(row),
        compact=True,
    )
    proxy = one.facts.labels == "proxy" and bool({"mos_split", "pair"} & set(directions))
    return _table(
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
    if one.facts.kind != "pairs" or not _has_opinions(one):
        return None
    rows = list(pair_accuracy_rows(one))
    both = any(row["attacked"] == "both" and row["state"] != "missing" for row in rows)
    label = {"attacked": lambda row: row["attacked"] or MISSING}
    clean = lambda row: _figure(row, "clean_accuracy", state=False)  # noqa: E731
    full = _by_budget(rows, label, ("clean", clean), lambda row: _figure(row, "accuracy"))
    compact = _by_budget(
        [row for row in rows if row["attacked"] in ("", "both" if both else "worse one up")],
        label,
        ("clean", lambda row: _plain(row, "clean_accuracy", state=False)),
        lambda row: number(row["accuracy"]),
        compact=True,
    )
    return _table(
        "pair_accuracy",
        one,
        data,
        f"Robust pair accuracy against {_labels(one)}",
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
    full = _by_budget(
        rows,
        {"test": lambda row: names[row["test"]]},
        ("clean", lambda row: _figure(row, "clean_share", state=False)),
        lambda row: _figure(row, "share"),
    )
    compact = _by_budget(
        rows,
        {"test": lambda row: names[row["test"]]},
        ("clean", lambda row: _plain(row, "clean_share", state=False)),
        lambda row: number(row["share"]),
        compact=True,
    )
    tests = "L: share of pairs of one reference and one distortion where the weaker level scores higher; attacked, the "
    tests += "weaker is lowered and the stronger raised. " if has_levels(one) else "weaker is lowered. "
    return _table(
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
    rows = list(two_afc_rows(one))
    proxy = one.facts.labels == "proxy"
    judges, who = ("a proxy judge (not people)", "the proxy judge") if proxy else ("people", "people")
    labels: dict[str, Callable[[Row], str]] = {
        "patch attacked": lambda row: row["attacked"] or MISSING,
        "figure": lambda row: row["kind"] + ("" if row["subset"] == "all" else f", {row['subset']}"),
    }
    full = _by_budget(
        rows,
        labels,
        ("clean", lambda row: _figure(row, "clean_accuracy", state=False)),
        lambda row: _figure(row, "accuracy"),
    )
    short = [row for row in rows if row["subset"] == "all" and row["attacked"] in ("", "both", CONTROL)]
    compact = _by_budget(
        short,
        {"figure": labels["figure"]},
        ("clean", lambda row: _plain(row, "clean_accuracy", state=False)),
        lambda row: number(row["accuracy"]),
        compact=True,
    )
    left_out = rows[0]["undecided"] if rows else 0
    return _table(
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
        ["pair"],
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


def _table(
    name: str,
    one: Evaluated,
    data: RunData,
    title: str,
    explanation: str,
    rows: Sequence[Row],
    full: Layout,
    compact: Layout,
    directions: Sequence[str],
    *notes: str,
) -> Table:
    extra = []
    if one.clusters < DESCRIPTIVE_BELOW:
        extra.append(f"Fewer than {DESCRIPTIVE_BELOW} references: intervals are descriptive and claim no coverage.")
    if any(row["state"] == "missing" for row in rows):
        extra.append(f"{MISSING}: not run.")
    if any(row["state"] == "failed" for row in rows):
        extra.append("failed: see Failures.")
    extra += [
        f"{BROKEN} broke its contract when probed ({rules}), so its figures may not mean what they say."
        for rules in dict.fromkeys(row["broken"] for row in rows if row["broken"])
    ]
    if any(row["draws"] > 1 for row in rows):
        extra.append("Randomised defenses: mean over draws; the standard deviation between draws is in the CSV.")
    return Table(
        name,
        one.name,
        f"{one.name}: {title}",
        explanation,
        pd.DataFrame(list(rows)),
        full,
        compact,
        _protocol(data, one, rows, directions),
        (*notes, *extra, *data.notices),
    )


def _protocol(data: RunData, one: Evaluated, rows: Sequence[Row], directions: Sequence[str]) -> str:
    facts = one.facts
    triplets = facts.kind == "triplets"
    count = len(set(one.samples)) if triplets else len(one.items)
    settings = [row for row in rows if row["attack"]]
    attacks = list(dict.fromkeys(_attack(row) for row in settings))
    limit = "" if data.limit is None else f" (limit {data.limit})"
    budgets = []
    for norm in dict.fromkeys(row["norm"] for row in settings):
        radii = sorted({row["eps"] for row in settings if row["norm"] == norm})
        budgets.append(f"{norm} " + ", ".join(budget_text(norm, eps) for eps in radii))
    threats = [_THREATS[name] for name in dict.fromkeys(row["threat"] for row in rows) if name in _THREATS]
    labels = "proxy quality" if facts.labels == "proxy" else "the opinion score"
    meant = [_DIRECTIONS.get(name, name).format(labels=labels) for name in directions]
    resamples = len(one.multiplicities)
    metrics = {row["metric"] for row in rows}
    parts = [
        f"{facts.name}, split {facts.split}",
        f"{count} {'triplets' if triplets else 'images'}{limit}, {one.clusters} references",
        f"{facts.labels} labels" if facts.labels != "none" else "no labels",
        f"attacks: {', '.join(attacks)}" if attacks else "no attacks",
        *(["directions: " + ", ".join(meant)] if meant and attacks else []),
        *([f"calibration samples: {facts.calibration}"] if facts.calibration and "error" in directions else []),
        *(["budgets: " + " and ".join(budgets)] if budgets else []),
        *threats,
        *(f"{metric} = {weights}" for metric, weights in data.weights.items() if metric in metrics),
        f"95 % intervals from {resamples} resamples of references, shared by all rows",
        f"slices of {data.slice_size}",
        f"seed {data.seed}",
        ", ".join(f"{name} {version}" for name, version in data.versions.items()),
    ]
    return "Protocol: " + "; ".join(part for part in parts if part) + "."


def _by_budget(
    rows: Sequence[Row],
    labels: dict[str, Callable[[Row], str]],
    clean: tuple[str, Callable[[Row], str]] | None,
    cell: Callable[[Row], str],
    compact: bool = False,
) -> Layout:
    """One line per scorer, attack and further label; the budgets are the columns."""
    budgets = sorted({(row["norm"], row["eps"]) for row in rows if row["attack"]})
    columns = list(dict.fromkeys(budget_text(*one) for one in sorted(budgets, key=lambda one: (one[1], one[0]))))
    short = short_names(sorted({str(row["attack"]) for row in rows})) if compact else {}
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    cleans: dict[tuple[str, ...], str] = {}
    for row in rows:
        attack = attack_text(short.get(str(row["attack"]), str(row["attack"])), row["norm"]) or MISSING
        key = (_scorer(row), attack, *(label(row) for label in labels.values()))
        cells = lines.setdefault(key, {})
        if row["attack"]:
            cells[budget_text(row["norm"], row["eps"])] = _stated(row, cell)
        if clean:
            cleans[key] = clean[1](row)
    budgets_named = (f"ε {column}" for column in columns)
    header = ("metric", "attack", *labels, *([clean[0]] if clean else []), *budgets_named)
    body = tuple(
        (*key, *([cleans[key]] if clean else []), *(cells.get(column, MISSING) for column in columns))
        for key, cells in lines.items()
        if any(text != MISSING for text in cells.values()) or not columns or key[1] == MISSING
    )
    return Layout(header, body, 2 + len(labels))


def _stated(row: Row, cell: Callable[[Row], str]) -> str:
    return {"failed": FAILED, "missing": MISSING}.get(row["state"]) or cell(row)


def _figure(row: Row, name: str, signed: bool = False, state: bool = True, beside: str = "") -> str:
    if math.isnan(row[name]) and not state:
        return FAILED if row["state"] == "failed" else MISSING
    text = with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 2, signed)
    spread = row[f"{name}_draw_sd"]
    second = [beside] if beside else []
    second += [] if math.isnan(spread) else [f"draw sd {number(spread, 3)}"]
    return "\n".join([text, ", ".join(second)] if second else [text])


def _plain(row: Row, name: str, state: bool = True) -> str:
    if math.isnan(row[name]) and not state:
        return FAILED if row["state"] == "failed" else MISSING
    return number(row[name])


def _beside(row: Row, name: str, control: str) -> str:
    if row["control"] or math.isnan(row[name]):
        return FAILED if row[f"{control}_state"] == "failed" and not row["control"] else MISSING
    return number(row[name], 2, True)


def _beyond(row: Row, control: str) -> str:
    name = f"excess_over_{control}"
    if math.isnan(row[name]):
        return FAILED if row[f"{control}_state"] == "failed" and not row["control"] else MISSING
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], 2, True)


def _compact_excess(row: Row) -> str:
    excess = row["excess_over_own_control"]
    return "" if math.isnan(excess) else f" ({number(excess, 1, True)})"


def _scorer(row: Row) -> str:
    return marked(scorer_text(row["metric"], row["defense"], row["threat"], row["source"]), row["broken"])


def _attack(row: Row) -> str:
    return attack_text(row["attack"], row["norm"])


def _direction(row: Row) -> str:
    return row["direction"] or MISSING


def _budget(row: Row) -> str:
    return budget_text(row["norm"], row["eps"])


def _labels(one: Evaluated) -> str:
    return "proxy quality (not human opinions)" if one.facts.labels == "proxy" else "human opinion scores"


def _has_opinions(one: Evaluated) -> bool:
    return one.facts.labels != "none" and int((~np.isnan(one.opinion)).sum()) >= 3
