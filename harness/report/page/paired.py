"""Differences of every two metrics of a data set: under each attack, and within each distortion type."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from harness.report.arrays import HONEST, OVER_ALL, Evaluated, ScorerGrid, Setting
from harness.report.headline import Ball, Headline
from harness.report.measure import (
    Correlated,
    attacked_sroccs,
    clean_sroccs,
    rated_clusters,
    rated_types,
    type_sroccs,
)
from harness.report.page.chart import usual_direction
from harness.report.rows import Bools, Measured, choose, clusters_of, mean_of
from harness.report.triplets import (
    attacked_accuracies,
    clean_accuracies,
    judged_clusters,
    judged_subsets,
    subset_accuracies,
)
from harness.statistics.bootstrap import Floats
from harness.statistics.intervals import intervals
from harness.suite.cell_names import CLEAN
from harness.wording import attack_text

MOST_INTERVALS = 4000
"""Differences that a page works out; of more metrics it has fewer budgets, directions and types."""
MOST_OF_TYPES = 1500
"""Figures within a type that a page works out under all attacks; beyond, those under the strongest are alone."""
LEAST_TRIPLETS = 8
"""With fewer decided triplets a subset has no figures of its own."""


class Apart(NamedTuple):
    """A figure of one metric less that of another, with its 95 % interval; nan for what does not exist."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Pairs:
    """Differences of every two metrics of a data set.

    Attributes:
        metrics: Labels, in the order of the headline.
        attacks: What rows of the figure are: "clean" first.
        types: Distortion types, subsets of triplets.
        found: (choice, number of A, number of B, attack, type or "" for all images) -> difference; A before B.
        choices: Budgets and directions.
        typed: Attacks that figures within types are known under.
    """

    metrics: tuple[str, ...]
    attacks: tuple[str, ...]
    types: tuple[str, ...]
    choices: tuple[tuple[Ball, str], ...]
    typed: tuple[str, ...]
    found: Mapping[tuple[tuple[Ball, str], int, int, str, str], Apart] = field(default_factory=dict)

    def of(self, choice: tuple[Ball, str], a: int, b: int, attack: str, kind: str = "") -> Apart:
        """A less B; nan where one of them has no figure."""
        first, second = min(a, b), max(a, b)
        one = self.found.get((choice, first, second, attack, kind), Apart())
        return one if a < b else Apart(-one.value, -one.high, -one.low)


class _Figures(NamedTuple):
    """Where the figures of a data set come from: the functions that its tables are made with."""

    clean: Callable[[ScorerGrid], list[Measured]]
    attacked: Callable[[ScorerGrid], Iterator[Correlated]]
    within: Callable[[ScorerGrid, Setting | None, str, Floats, str], list[Measured]]
    present: Bools
    types: Mapping[str, Bools]


def differences_of(one: Evaluated, headline: Headline) -> Pairs | None:
    """The differences of every two metrics; None where there are no two, no labels or no attacks.

    Of many metrics only those that `MOST_INTERVALS` has room for: first at one budget alone, then in one direction.
    """
    grids = {grid.label: grid for grid in one.scorers}
    rows = [row for row in headline.rows if row.threat != "oblivious" and row.clean.known]
    scorers = [grids[row.label] for row in rows if row.label in grids]
    if len(scorers) < 2 or not headline.statistic or headline.first is None:
        return None
    figures = _figures(one, headline)
    known = [_by_place(grid, figures) for grid in scorers]
    attacks = tuple(dict.fromkeys(name for found in known for _, name in found))
    choices = _choices(headline, len(scorers) * (len(scorers) - 1) // 2 * (1 + len(attacks)))
    types = tuple(figures.types)
    wanted, typed = choices, attacks
    if not _room(scorers, wanted, typed, types):
        wanted = choices[:1]
    if not _room(scorers, wanted, typed, types):
        typed = (_strongest(known, wanted[0], attacks),)
    while types and not _room(scorers, wanted, typed, types):
        types = types[:-1]
    found: dict[tuple[tuple[Ball, str], int, int, str, str], Apart] = {}

    def fill(choice: tuple[Ball, str], attack: str, kind: str, present: Bools, each: Sequence[list[Measured]]) -> None:
        pairs = [(a, b) for a, b in combinations(range(len(scorers)), 2) if each[a] and each[b]]
        for (a, b), one in zip(pairs, _apart(each, pairs, present), strict=True):
            found[choice, a, b, attack, kind] = one

    for choice in choices:
        fill(choice, CLEAN, "", figures.present, [figures.clean(grid) for grid in scorers])
        for attack in attacks:
            fill(choice, attack, "", figures.present, [own.get((choice, attack), (None, []))[1] for own in known])
    for choice in wanted:
        for kind in types:
            present = figures.types[kind]
            fill(choice, CLEAN, kind, present, [figures.within(grid, None, "", grid.clean, kind) for grid in scorers])
            for attack in typed:
                each = [
                    _within(one, grid, own.get((choice, attack)), choice[1], kind, figures)
                    for grid, own in zip(scorers, known, strict=True)
                ]
                fill(choice, attack, kind, present, each)
    labels = tuple(row.label for row in rows if row.label in grids)
    return Pairs(labels, (CLEAN, *attacks), types, choices, (CLEAN, *typed), found)


def _room(scorers: Sequence[ScorerGrid], choices: Sequence[Any], attacks: Sequence[str], types: Sequence[str]) -> bool:
    """Whether a page has room for figures within types."""
    each = len(choices) * (1 + len(attacks)) * len(types)
    pairs = len(scorers) * (len(scorers) - 1) // 2
    return len(scorers) * each <= MOST_OF_TYPES and pairs * each <= MOST_INTERVALS


_Places = dict[tuple[tuple[Ball, str], str], tuple[Setting | None, list[Measured]]]


def _by_place(grid: ScorerGrid, figures: _Figures) -> _Places:
    """((budget, direction), attack) -> its setting and figure of each draw."""
    found: _Places = {}
    for setting, direction, state, draws, _ in figures.attacked(grid):
        if setting.control or state != "ok" or setting.attack in (*OVER_ALL, HONEST):
            continue
        choice = Ball(setting.norm, setting.eps), direction
        found[choice, attack_text(setting.attack, setting.norm)] = setting, draws
    return found


def _choices(headline: Headline, each: int) -> tuple[tuple[Ball, str], ...]:
    """Budgets and directions, what is shown at first before the others; fewer where each has many differences."""
    first, usual = headline.first, usual_direction(headline.directions)
    every = [(ball, way) for ball in headline.budgets for way in headline.directions]
    every.sort(key=lambda one: (one != (first, usual), one[0] != first))
    room = max(1, MOST_INTERVALS // each)
    if len(every) <= room:
        return tuple(every)
    at_first = [one for one in every if one[0] == first]
    return tuple(at_first if len(at_first) <= room else at_first[:1])


def _strongest(known: Sequence[_Places], choice: tuple[Ball, str], attacks: Sequence[str]) -> str:
    """The attack that leaves least in the mean over metrics."""

    def left(attack: str) -> float:
        values = [value for own in known for value, _ in own.get((choice, attack), (None, []))[1]]
        return float(np.mean(values)) if values else math.inf

    return min(attacks, key=left)


def _figures(one: Evaluated, headline: Headline) -> _Figures:
    if headline.statistic == "SROCC":
        places = rated_types(one)
        return _Figures(
            partial(clean_sroccs, one),
            partial(attacked_sroccs, one, directions=headline.directions),
            lambda grid, setting, way, draws, kind: type_sroccs(one, (grid, setting, way), draws, kind, places[kind]),
            rated_clusters(one),
            {kind: clusters_of(one, one.codes[items]) for kind, items in places.items()},
        )
    return _Figures(
        partial(clean_accuracies, one),
        partial(attacked_accuracies, one, direction=headline.directions[0]),
        lambda grid, setting, way, draws, kind: subset_accuracies(one, draws, kind),
        judged_clusters(one),
        judged_subsets(one, LEAST_TRIPLETS),
    )


def _within(
    one: Evaluated,
    grid: ScorerGrid,
    place: tuple[Setting | None, list[Measured]] | None,
    direction: str,
    kind: str,
    figures: _Figures,
) -> list[Measured]:
    if place is None or place[0] is None:
        return []
    chosen = choose(one, grid, place[0], direction)
    attacked = chosen.outcome.attacked
    if one.facts.kind == "triplets":  # of which a direction may leave a patch alone
        attacked = np.where(chosen.sign == 0, grid.clean, attacked)
    return figures.within(grid, place[0], direction, attacked, kind)


def _apart(each: Sequence[Sequence[Measured]], pairs: Sequence[tuple[int, int]], present: Bools) -> list[Apart]:
    """Differences of means over draws, under the same resamples of clusters; of the metrics of each pair."""
    if not pairs:
        return []
    first, second = np.array(pairs).T
    means = {one: mean_of(each[one]) for pair in pairs for one in pair}
    values = [means[a][0] - means[b][0] for a, b in pairs]
    spreads = np.stack([means[one][1] for one in first]) - np.stack([means[one][1] for one in second])
    found = intervals(values, spreads, len(present), present=present)
    return [Apart(value, one.low, one.high) for value, one in zip(values, found, strict=True)]
