"""Adequacy of attacks: against the best image known of any, and against steps, restarts or queries of their own.

A plateau of one attack is not its optimum: psnr's pgd stands still a third below it. So each is held against the best
known image inside its ball as well, of whatever attack, control, transfer or smaller budget (local optimality, as in
AttackBench, Cina et al. 2025).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from harness.report.arrays import Evaluated, ScorerGrid, Setting, inside_ball
from harness.report.data import RunData
from harness.report.grouped import mean_by_item
from harness.report.layout import Layout, at_largest_budget, budget_of, direction_of, scorer_of
from harness.report.rows import Row, once, start_row
from harness.report.table import Table, make_table, table
from harness.statistics import robustness
from harness.statistics.bootstrap import Floats, present, ratio, resampled_mean
from harness.statistics.intervals import interval
from harness.statistics.masking import TOLERANCE, not_weaker
from harness.suite.cell_names import CLEAN
from harness.wording import FAILED, MISSING, attack_text, number, short_names, with_interval

GAIN = 0.05
"""Share of the shift reached that the last doubling may gain on a plateau, beside `TOLERANCE` standard deviations."""
NEAR_ENOUGH = 0.95
"""Share of the best known mean shift from which an attack is near it."""
EFFORTS = ("steps", "restarts", "queries")
"""Parameters that say how long an attack tries."""
YES, NO, OPEN = "yes", "NO", "open"
_GAINS = "↑"
"""Beside an attack on the terminal: it still gains."""
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
    """A row for every attack, scorer, budget and endpoint; of a series the last says whether it is a plateau.

    An attack that is in two series has a row in each, and one that is in none a series of its own.
    """
    for scorer in (scorer for scorer in one.scorers if scorer.threat != "transfer"):
        attacks = [setting.attack for setting in scorer.settings if not setting.control]
        known = list(series_of(data, attacks))
        in_series = {label for series in known for label in series.labels.values()}
        known += [Series(name, "", {1: name}) for name in dict.fromkeys(attacks) if name not in in_series]
        bests = _Bests(data, one, scorer)
        for number_, series in enumerate(known):
            own = [setting for setting in scorer.settings if setting.attack in series.labels.values()]
            for norm, eps in dict.fromkeys((setting.norm, setting.eps) for setting in own):
                at = {setting.attack: setting for setting in own if (setting.norm, setting.eps) == (norm, eps)}
                for endpoint in _ENDPOINTS:
                    if any((setting, endpoint) in scorer.finished for setting in at.values()):
                        for row in _series_rows(one, scorer, series, at, endpoint, bests):
                            yield row | {"series": number_}


class _Bests:
    """The best image known of each item, of all that the run has records of from one scorer.

    Args:
        data: The run.
        one: The data set.
        scorer: Who judges.
    """

    def __init__(self, data: RunData, one: Evaluated, scorer: ScorerGrid) -> None:
        self._rows = data.cell_rows(one.name)
        judged = (scorer.metric, scorer.defense)
        self._cells = [index for key, index in self._rows.cells.items() if key[:2] == judged and key.attack != CLEAN]
        self._places, self._count = (
            once(one, ("places of records",), lambda: self._rows.places(one.items)),
            len(one.items),
        )
        self._known = dict[tuple[str, float, str], Floats]()

    def push(self, norm: str, eps: float, endpoint: str) -> Floats:
        """How far the best known image of each item inside a ball moves quality, shape [N]; at least 0, the start's.

        Of a randomised scorer in the mean over draws.
        """
        key = norm, eps, endpoint
        if key not in self._known:
            linf, l2, attacked, clean = map(self._rows.numbers, ("linf", "l2", "attacked", "clean"))
            best = np.zeros(self._count)
            for cell in self._cells:
                index = cell[inside_ball(norm, eps, linf[cell], l2[cell])]
                pushed = _ENDPOINTS[endpoint] * (attacked[index] - clean[index])
                best = np.fmax(best, mean_by_item(pushed, self._places[index], self._count))
            self._known[key] = best
        return self._known[key]


def _series_rows(
    one: Evaluated, scorer: ScorerGrid, series: Series, at: dict[str, Setting], endpoint: str, bests: _Bests
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
        row |= {"value": value if series.effort else np.nan, "shift_over_sigma": np.nan, "since": np.nan, "plateau": ""}
        row |= dict.fromkeys(("gain", "gain_low", "gain_high", "allowed"), np.nan)
        row |= _near_best(one, push, bests.push(setting.norm, setting.eps, endpoint), clean)
        if push is not None:
            row["shift_over_sigma"] = robustness.mean_over_sigma(push, clean)
        before = pushes[half] if half is not None else None
        if value == last and push is not None and before is not None:
            gain = not_weaker(push, before, clean, one.codes, one.multiplicities)
            allowed = TOLERANCE + GAIN * abs(row["shift_over_sigma"])
            row |= {"since": half, "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "allowed": allowed}
            row["plateau"] = NO if gain.low > allowed else YES if gain.high <= allowed else OPEN
        yield row


def _near_best(one: Evaluated, push: Floats | None, best: Floats, clean: Floats) -> Row:
    """How much of the best known shift an attack reaches, and whether that is enough."""
    row: Row = {"best_over_sigma": np.nan, "share": np.nan, "share_low": np.nan, "share_high": np.nan, "adequate": ""}
    if push is None:
        return row
    best = np.where(np.isnan(push), np.nan, best)
    row["best_over_sigma"] = robustness.mean_over_sigma(best, clean)
    if not np.nanmean(best) > 0:
        return row
    reached, known = (resampled_mean(values, one.codes, one.multiplicities) for values in (push, best))
    value = float(np.nanmean(push) / np.nanmean(best))
    there = present(push, one.codes, one.multiplicities)
    share = interval(value, ratio(reached, known), one.clusters, "plain", there)  # a quotient, which may lie below 0
    high = min(share.high, 1.0)
    adequate = YES if share.low >= NEAR_ENOUGH else NO if high < NEAR_ENOUGH else OPEN
    return row | {"share": value, "share_low": share.low, "share_high": high, "adequate": adequate}


def _push(scorer: ScorerGrid, setting: Setting, endpoint: str) -> Floats | None:
    finished = scorer.of(setting, endpoint)
    if finished.state != "ok" or scorer.state != "ok":
        return None
    pushed: Floats = robustness.push(scorer.clean, finished.attacked, _ENDPOINTS[endpoint]).mean(axis=0)
    return pushed


@table(
    "adequacy",
    place=90,
    explains="Of every attack the share of the best known image's shift that it reaches; and against its steps, "
    "restarts or queries, whether the last doubling still gained, where the suite has it at several values of one.",
)
def adequacy_table(data: RunData, one: Evaluated) -> Table | None:
    """Every attack against the best image known, and against itself where the suite has it at several efforts."""
    rows = list(adequacy_rows(data, one))
    if not rows:
        return None
    return make_table(
        "adequacy",
        one,
        data,
        "Is the attack strong enough? Against the best known image, and against more steps, restarts, queries",
        "Mean movement of the score in standard deviations of its clean scores (σ), beside that of the best image "
        "known inside the same ball, and as one attack is given more to spend. An attack far from the best known, or "
        "one that still gains, overstates the metric's robustness.",
        rows,
        _layout(rows),
        _compact(at_largest_budget(rows, "plugin")),
        [endpoint for endpoint in _ENDPOINTS if any(row["direction"] == endpoint for row in rows)],
        f"Plateau: what the last doubling gains, paired over images, against {TOLERANCE} σ + {100 * GAIN:.0f} % of "
        f"the shift reached. {NO}: its whole interval lies above; {YES}: below; {OPEN}: on both sides; {MISSING}: no "
        "value is between a quarter and half of the last one. A plateau is one over the values tried, and no optimum.",
        "Best known: per image the furthest of all in this run that lies in the ball and was scored by the metric: any "
        "attack, control, transfer, smaller budget or cell added for verdicts. It is a lower bound of the optimum. "
        f"Adequate: {YES} where the whole interval of the share is at least {NEAR_ENOUGH}, {NO} where below, {OPEN} "
        "otherwise.",
    )


def _layout(rows: Sequence[Row]) -> Layout:
    """One line per scorer, series, endpoint and budget."""
    body: list[tuple[str, ...]] = []
    for key, own in _lines(rows).items():
        shifts = [FAILED if row["state"] == "failed" else number(row["shift_over_sigma"], 2, True) for row in own]
        told = " ".join(
            f"{row['value']:.0f}: {shift}" if row["effort"] else shift for row, shift in zip(own, shifts, strict=True)
        )
        last = own[-1]
        gain = with_interval(last["gain"], last["gain_low"], last["gain_high"], 2, True) + " σ"
        gained = (gain, last["plateau"]) if last["plateau"] else (MISSING, MISSING)
        known = not np.isnan(last["share"])
        share = with_interval(last["share"], last["share_low"], last["share_high"], 2) if known else MISSING
        body.append(
            (*key[:4], told, *gained, number(last["best_over_sigma"], 2, True), share, last["adequate"] or MISSING)
        )
    header = ("metric", "attack", "direction", "ε", "shift/σ at each", "gain of the last doubling", "plateau")
    return Layout((*header, "best known/σ", "share of it", "adequate"), tuple(body), 4)


def _compact(rows: Sequence[Row]) -> Layout:
    """One line per scorer, direction and budget: the share of the best known that each attack reaches, best first."""
    lines: dict[tuple[str, str, str], dict[str, Row]] = {}
    short = short_names(sorted({str(row["attack"]) for row in rows}))
    for row in rows:
        if not np.isnan(row["share"]) or row["state"] == "failed":
            key = scorer_of(row), direction_of(row), attack_text(budget_of(row), row["norm"])
            lines.setdefault(key, {})[short[row["attack"]]] = row
    body = []
    for key, own in lines.items():
        ordered = sorted(own.items(), key=lambda item: -np.nan_to_num(item[1]["share"], nan=-1.0))
        told = ", ".join(f"{name} {_share(row)}" for name, row in ordered)
        body.append((*key, number(ordered[0][1]["best_over_sigma"], 2, True), told))
    header = ("metric", "direction", "ε", "best known/σ", "share of it that each attack reaches")
    return Layout(
        header, tuple(body), 3, f"Each attack at its largest budget; {_GAINS}: still gains with more to spend."
    )


def _share(row: Row) -> str:
    if np.isnan(row["share"]):
        return FAILED
    return number(row["share"]) + (_GAINS if row["plateau"] == NO else "")


def _lines(rows: Sequence[Row]) -> dict[tuple[str, str, str, str, str], list[Row]]:
    """The rows of one scorer, series, endpoint and budget, in order of effort."""
    lines: dict[tuple[str, str, str, str, str], list[Row]] = {}
    for row in rows:
        attack = attack_text(row["plugin"], row["norm"]) + (f": {row['effort']}" if row["effort"] else "")
        key = (scorer_of(row), attack, direction_of(row), budget_of(row), str(row["series"]))
        lines.setdefault(key, []).append(row)
    return lines
