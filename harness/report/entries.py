"""Entries of a leaderboard: what one run says of one metric on one data set, as one small file that people review."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError
from harness.report.arrays import lay_out
from harness.report.data import RunData
from harness.report.headline import (
    EVERY_DIRECTION,
    NOT_JUDGED,
    Headline,
    HeadlineRow,
    Reading,
    UnderAttack,
    headlines,
)
from harness.suite.cell_names import CLEAN
from harness.suite.model import MetricUse
from harness.suite.plan import Plan

ENTRY_SCHEMA = 1
REVIEWED = ("reviewed_by", "paper", "code", "note")
"""Fields of an entry that people write; publishing again keeps them, and any others that it does not know."""
_EPS_DIGITS = 9
EVALUATIONS = 10
"""Evaluations per image that one attack at least has to take for a figure to be one of robustness."""
ALL_DIRECTIONS = "worst direction"
"""What an entry calls the worst of all directions."""

RULES: Mapping[str, str] = {
    "finished": "Every cell of the metric on the data set is done, and none failed.",
    "whole": "No file of the run is damaged, and each carries its seal (robustiqa check).",
    "labelled": "There are opinions to correlate with, people's or a proxy's. A proxy is called one, and never stands "
    "in one board with people's.",
    "attacked": f"At every budget an attack was run that took {EVALUATIONS} evaluations per image or more.",
    "controlled": "At every budget both honest controls were run, noise and restore, which no attack is.",
    "judged": "Signs of gradient masking were looked for (verdicts). A metric that has some stays in, with its flag.",
    "aware": "The attacker knew the metric and any defense of it: oblivious attacks say nothing of robustness.",
    "weights": "Its weights are no random ones.",
}
"""Rule -> what it asks; an entry that breaks one is shown, with the rule, and has no rank."""


@dataclass(frozen=True)
class PublishedRun:
    """A run that is published.

    Attributes:
        data: What its tables are made from.
        plan: What it planned.
        unfinished: (data set, metric, defense, threat) of scorers with something left to run, or that failed.
        whole: Whether all of its files are.
    """

    data: RunData
    plan: Plan
    unfinished: Collection[tuple[str, str, str, str]]
    whole: bool


def entries_of(run: PublishedRun) -> Iterator[dict[str, Any]]:
    """An entry for each data set and scorer of a run, transfers aside."""
    evaluated = lay_out(run.data)
    for headline in headlines(run.data, evaluated):
        for row in headline.rows:
            yield _entry(run, headline, row)


def _entry(run: PublishedRun, headline: Headline, row: HeadlineRow) -> dict[str, Any]:
    data = run.data
    facts, use = data.datasets[headline.dataset], _metric_of(run.plan, row)
    split = next(one for one in run.plan.splits if one.dataset.label == headline.dataset)
    scorer = next(
        cell.scorer
        for cell in run.plan.cells
        if cell.who[:4] == (headline.dataset, row.metric, row.defense, row.threat) and not cell.for_verdicts
    )
    boards = _boards(headline, row, _evaluations(data, headline.dataset, row))
    known = _rules(run, headline, row, use, boards)
    return {
        "schema": ENTRY_SCHEMA,
        "entry": entry_name(data.name, headline.dataset, row.label, [split.key, scorer.key, row.threat]),
        "metric": {
            "label": row.label,
            "name": use.name,
            "version": use.version,
            "defense": row.defense,
            "threat": row.threat,
            "weights_sha256": use.weights,
            "about": data.weights_of(row.metric, row.defense),
            "higher_is_better": row.metric not in data.lower_is_better,
            "broken_contract": row.broken,
        },
        "data": {
            "dataset": headline.dataset,
            "split": facts.split,
            "split_key": split.key,
            "fingerprint": split.fingerprint,
            "labels": headline.labels_kind,
            "labels_in_words": headline.labels,
            "kind": headline.kind,
            "n": headline.images,
            "clusters": headline.clusters,
            "cluster_noun": headline.noun,
            "descriptive": headline.descriptive,
        },
        "statistic": headline.statistic,
        "clean": _reading(row.clean),
        "attacked": boards,
        "attacks": sorted(set(data.records_of(headline.dataset)["attack"].unique()) - {CLEAN}),
        "masking": {"verdict": row.masking.verdict, "claims": [*row.masking.claims], "decided": row.masking.decided},
        "rules_broken": [name for name in RULES if not known[name]],
        "admissible": all(known.values()),
        "protocol": headline.protocol,
        "versions": dict(data.versions),
        "run": {"suite": data.name, "suite_digest": suite_digest(run.plan), "seed": data.seed, "limit": data.limit},
    }


def _metric_of(plan: Plan, row: HeadlineRow) -> MetricUse:
    """The metric with the weights that the row is of."""
    found = (cell.scorer.metric for cell in plan.cells if cell.who[1:3] == (row.metric, row.defense))
    return next(found)


def suite_digest(plan: Plan) -> str:
    """sha256 over what a suite asks for: the identities of its cells and of how many samples, whatever it is called."""
    cells = sorted(f"{cell.id} {len(plan.entries_of(cell))}" for cell in plan.cells)
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()


def entry_name(suite: str, dataset: str, metric: str, parts: Sequence[str]) -> str:
    """What an entry and its file are called: the same for the same metric, data and suite, whatever was added to it."""
    digest = hashlib.sha256("\0".join([suite, *parts]).encode()).hexdigest()[:8]
    words = ("".join(one if one.isascii() and one.isalnum() else "-" for one in text) for text in (dataset, metric))
    return "_".join([*("-".join(filter(None, text.split("-"))).lower()[:40] or "x" for text in words), digest])


def _reading(one: Reading) -> dict[str, float | None]:
    return {"value": _number(one.value), "low": _number(one.low), "high": _number(one.high)}


def _number(value: float) -> float | None:
    """A number as JSON has it, to 8 significant digits, as CSV files have it too."""
    return None if math.isnan(value) else float(f"{value:.8g}")


def _boards(
    headline: Headline, row: HeadlineRow, evaluations: Mapping[tuple[str, float], float]
) -> list[dict[str, Any]]:
    return [
        _board(under, ball.norm, ball.eps, direction, evaluations.get((ball.norm, round(ball.eps, _EPS_DIGITS)), 0.0))
        for (ball, direction), under in row.at.items()
    ]


def _board(under: UnderAttack, norm: str, eps: float, direction: str, evaluations: float) -> dict[str, Any]:
    return {
        "norm": norm,
        "eps": eps,
        "direction": ALL_DIRECTIONS if direction == EVERY_DIRECTION else direction,
        "state": under.state,
        "left": _reading(under.left),
        "worst_attack": under.attack,
        "worst_direction": under.direction,
        "honest_control": _reading(under.honest),
        "controls": [_number(one) for one in under.controls],
        "excess_sigma": _reading(under.excess),
        "excess_attack": under.excess_attack,
        "shift_sigma": _reading(under.shift),
        "most_evaluations": evaluations,
        "rank_in_run": list(under.rank) if under.rank else None,
    }


def _evaluations(data: RunData, dataset: str, row: HeadlineRow) -> dict[tuple[str, float], float]:
    """Budget -> the most evaluations per image that an attack took."""
    records = data.records_of(dataset)
    own = (records["metric"] == row.metric) & (records["defense"] == row.defense) & (records["threat"] == row.threat)
    attacks = records[own & ~records["control"].astype(bool) & (records["attack"] != CLEAN)]
    found: dict[tuple[str, float], float] = {}
    for key, part in attacks.groupby(["norm", "eps", "attack"], observed=True):
        norm, eps, _ = key if isinstance(key, tuple) else (key, math.nan, "")
        place = str(norm), round(float(str(eps)), _EPS_DIGITS)
        found[place] = max(found.get(place, 0.0), float(part[["forwards", "queries"]].max(axis=1).mean()))
    return found


def _rules(
    run: PublishedRun, headline: Headline, row: HeadlineRow, use: MetricUse, boards: Sequence[Mapping[str, Any]]
) -> dict[str, bool]:
    """Rule -> whether it is kept."""
    who = headline.dataset, row.metric, row.defense, row.threat
    boards = [one for one in boards if one["state"] != "missing"]
    failed = row.state != "ok" or any(one["state"] != "ok" for one in boards)
    return {
        "finished": who not in run.unfinished and not failed,
        "whole": run.whole,
        "labelled": bool(headline.statistic) and headline.labels_kind != "none",
        "attacked": bool(boards) and all(one["most_evaluations"] >= EVALUATIONS for one in boards),
        "controlled": bool(boards) and all(one["controls"][0] is not None for one in boards),
        "judged": row.masking.verdict != NOT_JUDGED,
        "aware": row.threat != "oblivious",
        "weights": use.weights != "random",
    }


def entry_text(entry: Mapping[str, Any]) -> str:
    """An entry as a file."""
    return json.dumps(entry, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def reviewed_entry(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """An entry with what people wrote into the one that stood there before; empty fields for them where none did."""
    kept = {key: value for key, value in (before or {}).items() if key not in entry}
    return {**entry, **{key: "" for key in REVIEWED if key not in kept}, **kept}


def changed_since(entry: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether anything but what people write differs."""
    return any(before.get(key) != value for key, value in entry.items())


def entry_in(text: str, name: str) -> dict[str, Any]:
    """An entry of a file.

    Raises:
        UserError: It is none, or of a newer version.
    """
    try:
        value = json.loads(text)
        known = value["schema"]
        fields = [value["entry"], value["metric"]["label"], value["data"]["split_key"], value["clean"]["value"]]
        fields += [value["masking"]["verdict"], value["admissible"], value["rules_broken"], value["run"]["suite"]]
        fields += [one["left"]["value"] for one in value["attacked"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{name}: no entry of a leaderboard. Remove it, or put back what was there.") from None
    if known != ENTRY_SCHEMA:
        raise UserError(f"{name}: its schema is {known}, and this version knows {ENTRY_SCHEMA}. Take a newer version.")
    return dict(value)
