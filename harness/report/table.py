"""A table: its figures, the forms people read it in, and the protocol line and notes under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.report.arrays import FURTHEST, HONEST, LOWEST_SROCC, MEAN_OVER_ATTACKS, OVER_ALL, Evaluated
from harness.report.data import RunData
from harness.report.layout import Layout, attack_of
from harness.report.rows import Row
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.suite.cell_names import CLEAN
from harness.suite.model import LEAST_RATED, NO_FLOOR
from harness.wording import BROKEN, MISSING, budget_text, counted

ASSUMPTION = "Opinions are taken not to change within the budget."
"""Stands under every figure of attacked images against opinions."""

PROTOCOL_LINE = "Protocol: "
"""How every protocol line begins."""

_DIRECTIONS = {
    "up": "up = quality raised",
    "down": "down = quality lowered",
    "mos_split": "mos_split = raised where {labels} is at or below the mean of the whole split, lowered above it",
    "self_split": "self_split = raised where the metric's own clean score is at or below its median, lowered above it",
    "error": "error = |Q̂ − y| raised, y being {labels} and Q̂ its least-squares line from the metric's quality on the "
    "calibration samples; a shift counts as positive on the side of y that the image starts on",
    "random_sign": "random_sign = raised or lowered by a fair coin per sample",
    "pair": "pair = the patch that the judge rejected raised, the one it preferred lowered",
    "preferred_down": "preferred_down = the patch that the judge preferred lowered, the other left alone",
    "rejected_up": "rejected_up = the patch that the judge rejected raised, the other left alone",
    "p0": "p0 = the first patch lowered where the judge preferred it and raised otherwise, the other left alone",
}
_THREATS = {
    "oblivious": "oblivious = attacked without the defense, scored with it: not a robustness claim",
    "adaptive": "adaptive = attacked through the defense",
    "transfer": "transfer = attacked on another metric",
}


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
    by_split: pd.DataFrame | None = None
    """Of a table over several splits, whose frame has means: the rows of each split."""


Maker = Callable[[RunData, Evaluated], Table | None]
"""Makes the table of one data set, or None where it does not apply."""


def table(name: str, *, explains: str, place: int = 1000, default: bool = True) -> Callable[[Maker], Maker]:
    """Decorator that makes a function a table of the report; one file in `harness/report/tables/`, and no other edit.

    All arguments are literals: suites are checked against the names, and the suite reference is written, without
    importing the file.

    Args:
        name: What suites ask for under ``tables:``, and the name of its files.
        explains: What it shows, for the suite reference.
        place: Where it stands in a report: smaller numbers come first.
        default: Whether it is made where a suite does not say which tables it wants.
    """

    def mark(maker: Maker) -> Maker:
        maker.table_name = name  # type: ignore[attr-defined]
        return maker

    return mark


def make_table(
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
    """A table of one data set, with the notes that its rows call for and its protocol line."""
    extra = []
    if one.clusters == 1:
        extra.append(f"{one.units}: no intervals.")
    elif one.clusters < DESCRIPTIVE_BELOW:
        noun = one.facts.cluster_noun
        extra.append(f"Fewer than {DESCRIPTIVE_BELOW} {noun}s: intervals are descriptive and claim no coverage.")
    if one.facts.kind == "pairs" and one.facts.labels != "none" and not has_opinions(one):
        extra.append(f"Fewer than {LEAST_RATED} images with opinions: no correlations and no tables made of them.")
    if any(row["state"] == "missing" for row in rows):
        extra.append(f"{MISSING}: not run.")
    if any(row["state"] == "failed" for row in rows):
        left = "Some slices have no records yet, and no figure is made of a part: run the suite again."
        extra.append("failed: see Failures." if data.failures else f"failed: not finished. {left}")
    extra += [
        f"{BROKEN} broke its contract when probed ({rules}), so its figures may not mean what they say."
        for rules in dict.fromkeys(row["broken"] for row in rows if row["broken"])
    ]
    if any(row["draws"] > 1 for row in rows):
        extra.append(
            "Randomised defenses: mean over draws; the standard deviation between draws is in the CSV. Worst of n: of "
            "each image the draw most in the attacker's favour, since an attacker may ask again."
        )
    return Table(
        name,
        one.name,
        f"{one.name}: {title}",
        " ".join(part for part in (made_by(data, one.name), explanation) if part),
        pd.DataFrame(list(rows)),
        full,
        compact,
        protocol_of(data, one, rows, directions),
        (*notes, *extra, *data.notices),
    )


def protocol_parts(protocol: str) -> list[str]:
    """The parts of what `protocol_of` gives; none of an empty text."""
    parts = protocol.removeprefix(PROTOCOL_LINE).removesuffix(".").split("; ")
    return [part for part in parts if part]


def protocol_of(data: RunData, one: Evaluated, rows: Sequence[Row], directions: Sequence[str]) -> str:
    """How some rows of a data set were made: parts between semicolons, after "Protocol: " and with a full stop."""
    facts = one.facts
    triplets = facts.kind == "triplets"
    count = len(set(one.samples)) if triplets else len(one.items)
    settings = [row for row in rows if row["attack"] not in ("", CLEAN)]
    attacks = list(dict.fromkeys(attack_of(row) for row in settings if row["attack"] not in (*OVER_ALL, HONEST)))
    over_all = {
        FURTHEST: "furthest of all = per image the furthest that an attack, or a control inside the ball, moved it, "
        "costs those of all attacks together",
        LOWEST_SROCC: "lowest SROCC of all = the lowest under any one attack, or under the furthest of all",
        MEAN_OVER_ATTACKS: "mean over attacks = of the attacks' figures, each alike",
    }
    limit = "" if data.limit is None else f" (limit {data.limit})"
    budgets = []
    for norm in dict.fromkeys(row["norm"] for row in settings):
        radii = sorted({row["eps"] for row in settings if row["norm"] == norm})
        budgets.append(f"{norm} " + ", ".join(budget_text(norm, eps) for eps in radii))
    threats = [_THREATS[name] for name in dict.fromkeys(row["threat"] for row in rows) if name in _THREATS]
    labels = "proxy quality" if facts.labels == "proxy" else "the opinion score"
    meant = [_DIRECTIONS.get(name, name).format(labels=labels) for name in directions]
    resamples = len(one.multiplicities) - one.clusters
    references = len(set(one.references))
    of = "" if one.facts.cluster_noun == "reference" else f" of {one.units}"
    metrics, defenses = ({row[name] for row in rows} for name in ("metric", "defense"))
    parts = [
        f"{facts.name}, split {facts.split}",
        f"{count} {'triplets' if triplets else 'images'}{limit}, {counted(references, 'reference')}{of}",
        _labels(data, one),
        f"attacks: {', '.join(attacks)}" if attacks else "no attacks",
        *(["directions: " + ", ".join(meant)] if meant and attacks else []),
        *([f"calibration samples: {facts.calibration}"] if facts.calibration and "error" in directions else []),
        *(["budgets: " + " and ".join(budgets)] if budgets else []),
        *(["white-box attacks searched in bf16, scored in fp32"] if data.precision == "bf16" and settings else []),
        *([f"pair accuracy of pairs whose opinions differ by more than {one.margin:g}"] if one.margin else []),
        *_floored(data, attacks),
        *(text for name, text in over_all.items() if any(row["attack"] == name for row in settings)),
        *threats,
        *(f"{name} = {text}" for name, text in data.weights.items() if {name, name.rpartition("@")[0]} & {*metrics}),
        *dict.fromkeys(f"{use} = {text}" for (name, use), text in data.networks.items() if name in defenses),
        f"95 % intervals: studentised over {one.units}" if one.clusters > 1 else "no intervals",
        f"bias from {resamples} resamples of them, shared by all rows" if one.clusters > 1 else "",
        f"slices of {data.slice_size}",
        f"seed {data.seed}",
        ", ".join(f"{name} {version}" for name, version in data.versions.items()),
    ]
    return PROTOCOL_LINE + "; ".join(part for part in parts if part) + "."


def _labels(data: RunData, one: Evaluated) -> str:
    """'human labels of dmos.mat'; without the source where there is but one."""
    source = data.label_sources.get(one.name, "")
    kind = f"{one.facts.labels} labels" if one.facts.labels != "none" else "no labels"
    return f"{kind} of {source}" if source else kind


def _floored(data: RunData, attacks: Sequence[str]) -> Sequence[str]:
    """Which attacks have a floor, and what that is."""
    floors = {label: facts.floor for label, facts in data.attacks.items() if facts.floor != NO_FLOOR}
    floored = [
        label for label in floors if any(attack == label or attack.startswith(f"{label} ") for attack in attacks)
    ]
    if not floored:
        return []
    return [f"floor: restore = of {', '.join(floored)} the better of the result and the restored image is kept"]


def made_by(data: RunData, dataset: str) -> str:
    """The versions of torch and the devices that records of a data set were computed with, if there are several.

    Numbers of two of them need not agree in the last digits, nor an attack that follows a sign.
    """
    pairs = data.records_of(dataset)[["torch", "device"]].drop_duplicates().itertuples(index=False)
    made = [f"torch {version} on {device}" for version, device in sorted(pairs)]
    return f"MADE FROM RECORDS OF {' AND OF '.join(made)}." if len(made) > 1 else ""


def labels_text(one: Evaluated) -> str:
    """What the opinions are, in words that never take a proxy for people."""
    return "proxy quality (not human opinions)" if one.facts.labels == "proxy" else "human opinion scores"


def has_opinions(one: Evaluated) -> bool:
    """Whether there are enough opinions to correlate with."""
    return one.facts.labels != "none" and int((~np.isnan(one.opinion)).sum()) >= LEAST_RATED
