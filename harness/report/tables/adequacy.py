"""Adequacy of attacks: strength against steps, restarts or queries, and whether a plateau is reached."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from harness.report.arrays import Evaluated, ScorerGrid, Setting
from harness.report.data import RunData
from harness.report.layout import Layout, at_largest_budget, budget_of, direction_of, scorer_of
from harness.report.measure import Row, start_row
from harness.report.table import Table, make_table, table
from harness.statistics import robustness
from harness.statistics.bootstrap import Floats
from harness.statistics.masking import TOLERANCE, not_weaker
from harness.wording import FAILED, MISSING, attack_text, number, with_interval

GAIN = 0.05
"""Share of the shift reached that the last doubling may gain on a plateau, beside `TOLERANCE` standard deviations."""
EFFORTS = ("steps", "restarts", "queries")
"""Parameters that say how long an attack tries."""
YES, NO, OPEN = "yes", "NO", "open"
_ENDPOINTS = {"up": 1, "down": -1}


class Series(NamedTuple):
    """One attack at several values of one of its efforts, all else equal."""

    name: str
    effort: str
    labels: dict[int, str]
    """Value -> label of the attack, in order of values."""


def series_of(data: RunData, labels: Sequence[str]) -> Iterator[Series]:
    """Every series among some attacks."""
    known = {label: data.attacks[label] for label in dict.fromkeys(labels) if label in data.attacks}
    for effort in EFFORTS:
        groups: dict[tuple[str, str], dict[int, str]] = {}
        for label, facts in known.items():
            if effort in facts.parameters:
                rest = {name: value for name, value in facts.parameters.items() if name != effort}
                key = facts.name, json.dumps(rest, sort_keys=True)
                groups.setdefault(key, {})[int(facts.parameters[effort])] = label
        for (name, _), found in groups.items():
            if len(found) > 1:
                yield Series(name, effort, dict(sorted(found.items())))


def adequacy_rows(data: RunData, one: Evaluated) -> Iterator[Row]:
    """A row for every value of every series, scorer, budget and endpoint; the last one says whether it is a plateau."""
    for scorer in (scorer for scorer in one.scorers if scorer.threat != "transfer"):
        attacks = [setting.attack for setting in scorer.settings if not setting.control]
        for number_, series in enumerate(series_of(data, attacks)):
            own = [setting for setting in scorer.settings if setting.attack in series.labels.values()]
            for norm, eps in dict.fromkeys((setting.norm, setting.eps) for setting in own):
                at = {setting.attack: setting for setting in own if (setting.norm, setting.eps) == (norm, eps)}
                for endpoint in _ENDPOINTS:
                    if any((setting, endpoint) in scorer.finished for setting in at.values()):
                        for row in _series_rows(one, scorer, series, at, endpoint):
                            yield row | {"series": number_}


def _series_rows(
    one: Evaluated, scorer: ScorerGrid, series: Series, at: dict[str, Setting], endpoint: str
) -> Iterator[Row]:
    values = [value for value, label in series.labels.items() if label in at]
    pushes = {value: _push(scorer, at[series.labels[value]], endpoint) for value in values}
    clean = scorer.clean.mean(axis=0)
    last = values[-1]
    half = max((value for value in values if 2 * value <= last <= 4 * value), default=None)
    for value in values:
        setting, push = at[series.labels[value]], pushes[value]
        state = scorer.of(setting, endpoint).state if scorer.state == "ok" else "failed"
        row = start_row(one, scorer, setting, endpoint, state, plugin=series.name, effort=series.effort)
        row |= {"value": value, "shift_over_sigma": np.nan, "since": np.nan, "plateau": ""}
        row |= dict.fromkeys(("gain", "gain_low", "gain_high", "allowed"), np.nan)
        if push is not None:
            row["shift_over_sigma"] = robustness.mean_over_sigma(push, clean)
        before = pushes[half] if half is not None else None
        if value == last and push is not None and before is not None:
            gain = not_weaker(push, before, clean, one.codes, one.multiplicities)
            allowed = TOLERANCE + GAIN * abs(row["shift_over_sigma"])
            row |= {"since": half, "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "allowed": allowed}
            row["plateau"] = NO if gain.low > allowed else YES if gain.high <= allowed else OPEN
        yield row


def _push(scorer: ScorerGrid, setting: Setting, endpoint: str) -> Floats | None:
    finished = scorer.of(setting, endpoint)
    if finished.state != "ok" or scorer.state != "ok":
        return None
    pushed: Floats = robustness.push(scorer.clean, finished.attacked, _ENDPOINTS[endpoint]).mean(axis=0)
    return pushed


@table(
    "adequacy",
    place=90,
    explains="How far quality moved against an attack's steps, restarts or queries, and whether the last doubling "
    "still gained; where the suite has one attack at several values of one of these.",
)
def adequacy_table(data: RunData, one: Evaluated) -> Table | None:
    """Strength against effort, where the suite has an attack at several efforts."""
    rows = list(adequacy_rows(data, one))
    if not rows:
        return None
    return make_table(
        "adequacy",
        one,
        data,
        "Is the attack strong enough? Shift against steps, restarts, queries",
        "Mean movement of the score in standard deviations of its clean scores (σ), as one attack is given more to "
        "spend. Where doubling it still gains, the metric's robustness at this attack is overstated.",
        rows,
        _layout(rows, gains=True),
        _layout(
            at_largest_budget(rows, "plugin"),
            gains=False,
            note="Each attack at its largest budget; the page has all of them.",
        ),
        [endpoint for endpoint in _ENDPOINTS if any(row["direction"] == endpoint for row in rows)],
        f"Plateau: what the last doubling gains, paired over images, against {TOLERANCE} σ + {100 * GAIN:.0f} % of "
        f"the shift reached. {NO}: its whole interval lies above; {YES}: below; {OPEN}: on both sides; {MISSING}: no "
        "value is between a quarter and half of the last one. A plateau is one over the values tried.",
    )


def _layout(rows: Sequence[Row], gains: bool, note: str = "") -> Layout:
    """One line per scorer, series, endpoint and budget; on the terminal without intervals."""
    lines: dict[tuple[str, str, str, str, str], list[Row]] = {}
    for row in rows:
        attack = attack_text(row["plugin"], row["norm"])
        key = (scorer_of(row), f"{attack}: {row['effort']}", direction_of(row), budget_of(row), str(row["series"]))
        lines.setdefault(key, []).append(row)
    body: list[tuple[str, ...]] = []
    for key, own in lines.items():
        shifts = [FAILED if row["state"] == "failed" else number(row["shift_over_sigma"], 2, True) for row in own]
        told = " ".join(f"{row['value']}: {shift}" for row, shift in zip(own, shifts, strict=True))
        last = own[-1]
        gain = with_interval(last["gain"], last["gain_low"], last["gain_high"], 2, True) + " σ"
        gained = (gain if last["plateau"] else MISSING,) if gains else ()
        body.append((*key[:4], told, *gained, last["plateau"] or MISSING))
    header = ("metric", "attack", "direction", "ε", "shift/σ at each")
    return Layout((*header, *(("gain of the last doubling",) if gains else ()), "plateau"), tuple(body), 4, note)
