"""Which metrics rank images better than which: figures, differences and the firmness of the order, by condition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.report.arrays import FURTHEST, LOWEST_SROCC, Evaluated, ScorerGrid, Setting, State
from harness.report.layout import usual_of
from harness.report.measure import attacked_sroccs, clean_sroccs, rated_clusters
from harness.report.rows import Bools, Measured, Row, figure, start_row
from harness.statistics.intervals import DESCRIPTIVE_BELOW
from harness.statistics.ranking import ADJUSTMENTS, APART, Difference, differences_between, letters, stability, verdict
from harness.suite.cell_names import CLEAN
from harness.suite.model import Adjustment
from harness.wording import NO_DEFENSE, attack_text, joined, trained_name

METRIC, COMPARED, WHOLE_ORDER = "metric", "contrast", "order"
"""What a row is: a metric with its group, one metric less another, or the order of all."""


@dataclass(frozen=True)
class _Condition:
    """Under what the metrics are compared; clean without a setting."""

    setting: Setting | None
    direction: str

    @property
    def name(self) -> str:
        if self.setting is None:
            return CLEAN
        return f"{attack_text(self.setting.attack, self.setting.norm)} {self.direction}"


@dataclass(frozen=True)
class _Contestant:
    """A metric, under a defense where it has one, and how it ranks under one condition."""

    name: str
    scorer: ScorerGrid
    state: State
    draws: list[Measured]
    """SROCC of each draw of a randomised defense."""

    @property
    def known(self) -> bool:
        return bool(self.draws) and not np.isnan(self.draws[0][0])

    @property
    def mean(self) -> Measured:
        values, spreads = zip(*self.draws, strict=True)
        return float(np.mean(values)), np.mean(spreads, axis=0)


def rank_rows(
    data: Evaluated, directions: Sequence[str], contrasts: Sequence[tuple[str, str]] = (), adjust: Adjustment = "holm"
) -> Iterator[Row]:
    """The metrics of each condition, best first, their contrasts, and the order of all: clean, then every attack.

    Attacks are those of the budget that is told of first, in each norm, and what is lowest of all of them.

    Args:
        data: The data set.
        directions: Directions wanted.
        contrasts: Pairs of names (a metric, or ``METRIC@DEFENSE``); none for every two metrics without a defense.
        adjust: How p-values are adjusted for the number of contrasts of a condition.
    """
    scorers = _scorers(data, contrasts)
    sroccs = {name: _by_condition(data, scorer, directions) for name, scorer in scorers.items()}
    absent: tuple[State, list[Measured]] = ("missing", [])
    for condition in dict.fromkeys(condition for found in sroccs.values() for condition in found):
        contestants = [
            _Contestant(name, scorer, *sroccs[name].get(condition, absent)) for name, scorer in scorers.items()
        ]
        yield from _rows(data, condition, contestants, contrasts, adjust)


def _scorers(data: Evaluated, contrasts: Sequence[tuple[str, str]]) -> dict[str, ScorerGrid]:
    """Name -> scorer of those that are compared.

    Of a metric under a defense it is the one attacked through it, if there is one: an oblivious attack says nothing of
    robustness.
    """
    found: dict[str, ScorerGrid] = {}
    for scorer in sorted(data.scorers, key=lambda one: one.threat != "adaptive"):
        if scorer.threat != "transfer":
            defense = "" if scorer.defense == NO_DEFENSE else scorer.defense
            found.setdefault(trained_name(scorer.metric, defense), scorer)
    names = [trained_name(one.metric, "") for one in data.scorers if one.threat == "none"]
    wanted = dict.fromkeys(name for pair in contrasts for name in pair) if contrasts else dict.fromkeys(names)
    return {name: found[name] for name in wanted if name in found}


def _by_condition(
    data: Evaluated, scorer: ScorerGrid, directions: Sequence[str]
) -> dict[_Condition, tuple[State, list[Measured]]]:
    """State and SROCC of a scorer clean and under each attack; oblivious attacks have none."""
    found: dict[_Condition, tuple[State, list[Measured]]] = {
        _Condition(None, ""): (scorer.state, clean_sroccs(data, scorer))
    }
    if scorer.threat == "oblivious":
        return found
    radii: dict[str, list[float]] = {}
    for one in data.scorers:
        for setting in one.settings:
            if not setting.control:
                radii.setdefault(setting.norm, []).append(setting.eps)
    for setting, direction, state, attacked, _ in attacked_sroccs(data, scorer, directions):
        if not setting.control and setting.attack != FURTHEST and setting.eps == usual_of(radii[setting.norm]):
            found[_Condition(setting, direction)] = state, attacked
    return found


def _rows(
    data: Evaluated,
    condition: _Condition,
    contestants: Sequence[_Contestant],
    contrasts: Sequence[tuple[str, str]],
    adjust: Adjustment,
) -> Iterator[Row]:
    present = rated_clusters(data)
    ranked = sorted(contestants, key=lambda one: -one.mean[0] if one.known else np.inf)
    known = {one.name: one for one in ranked if one.known}
    family = [pair for pair in contrasts or combinations([one.name for one in contestants], 2) if {*pair} <= {*known}]
    found, adjusted, verdicts = _compared({name: one.mean for name, one in known.items()}, family, present, adjust)
    claims = _claims(present)
    apart = [pair for pair, told in verdicts.items() if told == APART]
    groups = {} if contrasts or not claims else _groups(list(known), apart)
    for one in ranked:
        better = [b if found[a, b].value < 0 else a for a, b in apart if one.name in (a, b)]
        row = _start(data, condition, METRIC, one.name, one.scorer, one.state)
        row |= figure("srocc", one.draws, present, "correlation")
        yield row | {"group": groups.get(one.name, ""), "beaten_by": joined([b for b in better if b != one.name])}
    for pair, apart_by in found.items():
        start = _start(data, condition, COMPARED, pair[0], known[pair[0]].scorer, "ok") | {"against": pair[1]}
        yield (
            start
            | _figures(apart_by)
            | {"p_adjusted": adjusted[pair], "contrasts": len(found), "verdict": verdicts[pair]}
        )
    if len(known) > 1:
        means = [one.mean for one in known.values()]
        resampled = np.stack([spread[data.clusters :] for _, spread in means])
        same, tau = stability([value for value, _ in means], resampled, int(np.sum(present)))
        names = " > ".join(known)
        yield _start(data, condition, WHOLE_ORDER, names, ranked[0].scorer, "ok") | {
            "same_order": same,
            "mean_tau": tau,
        }


def _start(data: Evaluated, condition: _Condition, kind: str, name: str, scorer: ScorerGrid, state: State) -> Row:
    row = start_row(data, scorer, condition.setting, condition.direction, state, kind=kind, condition=condition.name)
    return row | {"attack": row["attack"] or CLEAN, "name": name, "against": ""}


def _compared(
    figures: Mapping[str, Measured], family: Sequence[tuple[str, str]], present: Bools, adjust: Adjustment
) -> tuple[dict[tuple[str, str], Difference], dict[tuple[str, str], float], dict[tuple[str, str], str]]:
    """Of each contrast: the difference, its adjusted p-value, and what is said of it."""
    values = [figures[a][0] - figures[b][0] for a, b in family]
    spreads = [figures[a][1] - figures[b][1] for a, b in family]
    made = differences_between(values, np.stack(spreads), len(present), present) if family else []
    found = dict(zip(family, made, strict=True))
    adjusted = dict(zip(found, ADJUSTMENTS[adjust]([one.p for one in found.values()]).tolist(), strict=True))
    return found, adjusted, {pair: verdict(p, _claims(present)) for pair, p in adjusted.items()}


def _claims(present: Bools) -> bool:
    """Whether there are clusters enough to claim anything."""
    return int(present.sum()) >= DESCRIPTIVE_BELOW


def rank_ranges(figures: Mapping[str, Measured], present: Bools, adjust: Adjustment) -> dict[str, tuple[int, int]]:
    """First and last rank that each of some metrics may have, from their paired differences.

    As many ranks are before it as metrics that are told apart from it and better, and as many after it as are worse.

    Args:
        figures: Name -> its figure, the higher the better.
        present: Which clusters have a part in them, shape [C].
        adjust: How p-values are adjusted for the number of pairs.

    Returns:
        Name -> (first, last), 1 being the best; empty where the clusters are too few to claim anything.
    """
    if not _claims(present):
        return {}
    found, _, verdicts = _compared(figures, list(combinations(figures, 2)), present, adjust)
    apart = [(a, b) if found[a, b].value > 0 else (b, a) for (a, b), told in verdicts.items() if told == APART]
    better, worse = [one for one, _ in apart], [other for _, other in apart]
    return {name: (1 + worse.count(name), len(figures) - better.count(name)) for name in figures}


def _figures(one: Difference) -> Row:
    """A difference as columns."""
    return {
        "difference": one.value,
        "difference_low": one.low,
        "difference_high": one.high,
        "difference_bias": one.bias,
        "difference_error": one.error,
        "p": one.p,
        "smallest_shown": one.detectable,
        "resamples_median": one.median,
        "resamples_low": one.lower,
        "resamples_high": one.upper,
        "papers_rule": one.by_paper,
    }


def _groups(names: Sequence[str], apart: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The letters of metrics, in order of rank."""
    place = {name: i for i, name in enumerate(names)}
    numbered = {(min(place[a], place[b]), max(place[a], place[b])) for a, b in apart}
    return dict(zip(names, letters(len(names), sorted(numbered)), strict=True))


def compared(data: Evaluated, contrasts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Of the contrasts asked for, those whose metrics are in the data."""
    known = _scorers(data, contrasts)
    return [pair for pair in contrasts if {*pair} <= {*known}]


def unclaimed(data: Evaluated, contrasts: Sequence[tuple[str, str]]) -> list[str]:
    """Those that are compared clean alone, because what attacked them did not know of their defense."""
    return [name for name, scorer in _scorers(data, contrasts).items() if scorer.threat == "oblivious"]


def lowest_conditions(rows: Sequence[Row]) -> list[str]:
    """Conditions that stand for attack: the lowest of all attacks, or each of them where it stands alone."""
    attacked = [row for row in rows if row["attack"] != CLEAN]
    lowest = [row for row in attacked if row["attack"] == LOWEST_SROCC]
    return list(dict.fromkeys(row["condition"] for row in lowest or attacked))
