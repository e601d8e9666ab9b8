"""The figures that a report begins with: what each scorer is left with under its worst attack, and beside what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal, NamedTuple

import numpy as np

from harness.report.arrays import (
    HONEST,
    LOWERING_CONTROL,
    LOWEST_SROCC,
    OVER_ALL,
    RAISING_CONTROL,
    Evaluated,
    ScorerGrid,
    State,
)
from harness.report.data import RunData
from harness.report.layout import usual_of
from harness.report.masking import FAIL, INCONCLUSIVE, PASS, verdicts_of
from harness.report.measure import Correlated, attacked_sroccs, clean_sroccs, rated_clusters
from harness.report.ranking import rank_ranges
from harness.report.rows import Bools, Measured, Row, figure, joint_state, lowest_of, mean_of, start_row
from harness.report.shifts import shift_rows
from harness.report.table import has_opinions, labels_text, protocol_of
from harness.report.triplets import attacked_accuracies, clean_accuracies, judged_clusters
from harness.statistics.intervals import DESCRIPTIVE_BELOW, Scale
from harness.suite.model import Adjustment
from harness.wording import number, with_interval

EVERY_DIRECTION = ""
"""In place of a direction: the worst of all that were run."""
NOT_FLAGGED: Final = "clean"
UNDECIDED: Final = "open"
SUSPECT: Final = "suspect"
NOT_JUDGED: Final = "not judged"
"""Whether gradients mislead attacks on a metric: nothing speaks for it, too few images to tell, a verdict says so, or
no verdict could be measured."""


Flag = Literal["clean", "open", "suspect", "not judged"]


class Ball(NamedTuple):
    """A ball: its norm ("linf", "l2") and its radius in [0, 1] image units."""

    norm: str
    eps: float


_Place = tuple[Ball, str]
"""A budget and a direction."""


@dataclass(frozen=True)
class Reading:
    """A figure with its 95 % interval; nan for what does not exist."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is a figure."""
        return not math.isnan(self.value)


@dataclass(frozen=True)
class Masking:
    """What verdicts on gradient masking say of a scorer.

    Attributes:
        verdict: `NOT_FLAGGED`, `UNDECIDED`, `SUSPECT` or `NOT_JUDGED`.
        claims: The claims that failed, or that are open; empty otherwise.
        decided: The one that speaks most against the metric with its figure, in words: "white-box at least black-box:
            −0.41 [−0.60, −0.22] σ, least −0.05 σ"; empty where nothing was judged.
    """

    verdict: Flag = "not judged"
    claims: tuple[str, ...] = ()
    decided: str = ""


@dataclass(frozen=True)
class UnderAttack:
    """A scorer at one budget in one direction, or in the worst of all (`EVERY_DIRECTION`).

    Attributes:
        state: "ok", "failed" or "missing"; figures other than of an "ok" one are nan.
        direction: The direction itself; of `EVERY_DIRECTION` the one that leaves least.
        left: SROCC (2AFC accuracy) under the worst attack; the same as the row "lowest SROCC of all" of the table
            `srocc`, or that of the only attack.
        attack: Label of that attack, or "furthest of all".
        honest: The same figure under the honest reference (restore where quality is raised, noise where it is lowered,
            inside the same ball): no attack, and what an attack should be compared with.
        controls: Lowest and highest figure that the controls alone leave: noise, restore and the honest reference.
        excess: Largest excess of an attack over its own control, in standard deviations of clean scores, as the table
            `shift` has it.
        excess_attack: Label of the attack that has it.
        shift: Largest mean shift of scores along an attack, in standard deviations of clean scores.
        shift_attack: Label of the attack that has it.
        rank: First and last rank among the scorers of this data set that paired differences over clusters allow: 1 to 2
            for the two best that cannot be told apart. None where there are too few clusters to tell anything, for a
            scorer without a figure, and for oblivious attacks, which say nothing of robustness.
    """

    state: State
    direction: str
    left: Reading = Reading()
    attack: str = ""
    honest: Reading = Reading()
    controls: tuple[float, float] = (math.nan, math.nan)
    excess: Reading = Reading()
    excess_attack: str = ""
    shift: Reading = Reading()
    shift_attack: str = ""
    rank: tuple[int, int] | None = None


@dataclass(frozen=True)
class HeadlineRow:
    """One scorer: a metric, with a defense and how the attacker met it where it has one.

    Attributes:
        label: What people read, such as "birqa-tiny + flip (adaptive)"; with a dagger where the metric broke its
            contract.
        metric: Label of the metric.
        defense: Label of the defense; "base" for none.
        threat: "none", "oblivious" or "adaptive".
        broken: Rules of the contract that were broken; empty for none.
        state: Of its clean scores.
        clean: SROCC (2AFC accuracy) without an attack.
        at: (budget, direction) -> what is left, for every budget and direction of the data set and `EVERY_DIRECTION`.
        masking: Whether its gradients mislead.
    """

    label: str
    metric: str
    defense: str
    threat: str
    broken: str
    state: State
    clean: Reading
    at: Mapping[tuple[Ball, str], UnderAttack]
    masking: Masking


@dataclass(frozen=True)
class Headline:
    """One data set.

    Attributes:
        dataset: Its name in the run.
        statistic: "SROCC", "2AFC accuracy", or "" without labels to compare with: then shifts alone are known.
        labels: In words: "proxy quality (not human opinions)", "human opinion scores" or "no labels".
        labels_kind: "human", "proxy" or "none".
        images: Number of images (triplets).
        kind: "image" or "triplet".
        clusters: Number of independent units.
        noun: What they are called, in the singular.
        descriptive: Whether they are too few to claim anything; then nothing is ranked.
        first: The budget that is told of first; None without attacks.
        budgets: All budgets, by norm and radius.
        directions: The directions that were run, in the suite's order.
        attacks: Labels of all attacks, in the suite's order.
        rows: The scorers: those with a figure under the worst attack at `first` in all directions, highest first, then
            those without, then those attacked obliviously; equal ones as the suite has them.
        protocol: How the figures were made: parts between semicolons, after "Protocol: ".
        splits: Of how many splits the figures are means, which have no interval and no rank.
    """

    dataset: str
    statistic: str
    labels: str
    labels_kind: str
    images: int
    kind: str
    clusters: int
    noun: str
    descriptive: bool
    first: Ball | None
    budgets: tuple[Ball, ...]
    directions: tuple[str, ...]
    attacks: tuple[str, ...]
    rows: tuple[HeadlineRow, ...]
    protocol: str
    splits: int = 1


def headlines(data: RunData, evaluated: Sequence[Evaluated]) -> list[Headline]:
    """The headline of each data set, in order; of a data set evaluated over several splits, one for each split.

    Args:
        data: The run.
        evaluated: Its data sets, laid out as arrays.
    """
    return [_headline(data, one) for one in evaluated]


def _headline(data: RunData, one: Evaluated) -> Headline:
    directions = data.directions_of(one.facts)
    figures = _figures_of(one, directions)
    shifts = _shifts(one, directions)
    grids = [
        _Grid(figures, scorer, shifts.get(scorer.who, {})) for scorer in one.scorers if scorer.threat != "transfer"
    ]
    found = dict.fromkeys(place for grid in grids for place in grid.run)
    balls = sorted({ball for ball, _ in found}, key=lambda ball: (ball.norm != "linf", ball))
    places = [
        (ball, way) for ball in balls for way in (EVERY_DIRECTION, *directions) if way == "" or (ball, way) in found
    ]
    ranks = {place: _ranks(figures, grids, place, data.adjust) for place in places}
    masking = _masking(data, one)
    rows = [
        HeadlineRow(
            grid.scorer.label,
            *(grid.scorer.metric, grid.scorer.defense, grid.scorer.threat, grid.scorer.broken, grid.scorer.state),
            clean=figures.reading(figures.clean(grid.scorer)),
            at={place: replace(grid.under(*place), rank=ranks[place].get(i)) for place in places},
            masking=masking.get(grid.scorer.who, Masking()),
        )
        for i, grid in enumerate(grids)
    ]
    first = _first(balls)
    return Headline(
        dataset=one.name,
        statistic=figures.statistic,
        labels="no labels" if one.facts.labels == "none" else labels_text(one),
        labels_kind=one.facts.labels,
        images=len(one.items) if one.facts.kind == "pairs" else len(set(one.samples)),
        kind="image" if one.facts.kind == "pairs" else "triplet",
        clusters=one.clusters,
        noun=one.facts.cluster_noun,
        descriptive=int(figures.present.sum()) < DESCRIPTIVE_BELOW,
        first=first,
        budgets=tuple(balls),
        attacks=tuple(dict.fromkeys(one.attack for grid in grids for one in grid.scorer.settings if not one.control)),
        directions=tuple(way for way in directions if any(way == one for _, one in found)),
        rows=tuple(sorted(rows, key=partial(order, first))),
        protocol=protocol_of(data, one, _rows_told(one, grids, directions), directions),
    )


def _rows_told(one: Evaluated, grids: Sequence[_Grid], directions: Sequence[str]) -> list[Row]:
    """Rows of all scorers, attacks and controls of a headline."""
    rows = [row for row in shift_rows(one, directions) if row["threat"] != "transfer" and row["attack"] not in OVER_ALL]
    return [*(start_row(one, grid.scorer, None, "", grid.scorer.state) for grid in grids), *rows]


def _first(balls: Sequence[Ball]) -> Ball | None:
    """The budget that is told of first, of the max norm where there is one."""
    alike = [ball for ball in balls if ball.norm == balls[0].norm]
    return Ball(alike[0].norm, usual_of(ball.eps for ball in alike)) if alike else None


def order(first: Ball | None, row: HeadlineRow) -> tuple[bool, bool, float]:
    """What is left under the worst attack, highest first; without labels what moves least; without attacks clean."""
    under = row.at[first, EVERY_DIRECTION] if first else None
    labelled = row.clean.known or (under is not None and under.left.known)
    figure = -row.clean.value if under is None else -under.left.value if labelled else under.shift.value
    return row.threat == "oblivious", math.isnan(figure), 0.0 if math.isnan(figure) else figure


@dataclass(frozen=True)
class _Figures:
    """Where the figures of a data set come from: the functions that its tables are made with."""

    statistic: str
    scale: Scale
    present: Bools
    clean: Callable[[ScorerGrid], list[Measured]]
    attacked: Callable[[ScorerGrid], Iterator[Correlated]]

    def reading(self, draws: Sequence[Measured]) -> Reading:
        """A figure with its interval, as tables have it."""
        row = figure("left", draws, self.present, self.scale)
        return Reading(row["left"], row["left_low"], row["left_high"])


def _figures_of(one: Evaluated, directions: Sequence[str]) -> _Figures:
    if one.facts.kind == "triplets" and not np.isnan(one.judge).all():
        attacked = partial(attacked_accuracies, one, direction=directions[0])
        return _Figures("2AFC accuracy", "share", judged_clusters(one), partial(clean_accuracies, one), attacked)
    if one.facts.kind == "pairs" and has_opinions(one):
        sroccs = partial(attacked_sroccs, one, directions=directions, honest=True)
        return _Figures("SROCC", "correlation", rated_clusters(one), partial(clean_sroccs, one), sroccs)
    return _Figures("", "plain", np.ones(one.clusters, dtype=np.bool_), lambda scorer: [], lambda scorer: iter(()))


class _Left(NamedTuple):
    """What an attack leaves, or the worst of several, or of several directions: of each draw."""

    state: State
    draws: Sequence[Measured]
    name: str = ""
    """The attack."""
    direction: str = ""

    @property
    def mean(self) -> float:
        """Over draws; infinite where it has no figure, so that the lowest of several has one."""
        value = float(np.mean([value for value, _ in self.draws])) if self.draws else math.nan
        return math.inf if math.isnan(value) else value


class _Grid:
    """What one scorer is left with at every budget and in every direction.

    Args:
        figures: Where figures come from.
        scorer: The scorer.
        shifts: Its rows of the table `shift`, without controls and what stands for several attacks.
    """

    def __init__(self, figures: _Figures, scorer: ScorerGrid, shifts: Mapping[_Place, Sequence[Row]]) -> None:
        self.scorer, self._figures, self._shifts = scorer, figures, shifts
        self._attacks: dict[_Place, list[_Left]] = {}
        self._lowest: dict[_Place, _Left] = {}
        self._honest: dict[_Place, _Left] = {}
        self._controls: dict[Ball, list[float]] = {}
        for setting, way, state, draws, _ in figures.attacked(scorer):
            ball, left = Ball(setting.norm, setting.eps), _Left(state, draws, setting.attack, way)
            if setting.control:
                if setting.plugin in (RAISING_CONTROL, LOWERING_CONTROL) and left.mean < math.inf:
                    self._controls.setdefault(ball, []).append(left.mean)
            elif setting.attack == HONEST:
                self._honest[ball, way] = left
            elif setting.attack == LOWEST_SROCC:
                self._lowest[ball, way] = left
            elif state != "missing":
                self._attacks.setdefault((ball, way), []).append(left)

    @property
    def run(self) -> list[_Place]:
        """The budgets and directions that it was attacked in."""
        return list(dict.fromkeys((*self._attacks, *(place for place, rows in self._shifts.items() if rows))))

    def left(self, ball: Ball, direction: str) -> _Left:
        """What the worst attack leaves."""
        if direction == EVERY_DIRECTION:
            parts = [self.left(*place) for place in self._attacks if place[0] == ball]
        else:
            parts = self._attacks.get((ball, direction), [])
        if not parts:
            return _Left("missing", ())
        state, worst = joint_state({one.state for one in parts}), min(parts, key=lambda one: one.mean)
        if state != "ok":
            return _Left(state, (), "", direction)
        if direction != EVERY_DIRECTION:
            lowest = self._lowest.get((ball, direction), worst)
            return worst._replace(draws=lowest.draws or worst.draws)
        return worst._replace(draws=[lowest_of(each) for each in zip(*(one.draws for one in parts), strict=True)])

    def under(self, ball: Ball, direction: str) -> UnderAttack:
        """All that is known of one budget and direction, but the rank."""
        left = self.left(ball, direction)
        rows = [
            row for (own, way), found in self._shifts.items() for row in found if own == ball and direction in ("", way)
        ]
        moved = joint_state({row["state"] for row in rows}) if rows else "missing"
        rows = rows if moved == "ok" else []
        shift, excess = _largest(rows, "shift_over_sigma"), _largest(rows, "excess_over_own_control")
        honest = [one.mean for (own, way), one in self._honest.items() if own == ball and direction in ("", way)]
        controls = [value for value in (*self._controls.get(ball, ()), *honest) if value < math.inf]
        beside = self._honest.get((ball, left.direction))
        return UnderAttack(
            state=left.state if self._figures.statistic else moved,
            direction=left.direction or direction or (str(shift[1]["direction"]) if shift[1] else ""),
            left=self._figures.reading(left.draws),
            attack=left.name,
            honest=self._figures.reading(beside.draws if beside else ()),
            controls=(min(controls), max(controls)) if controls else (math.nan, math.nan),
            excess=excess[0],
            excess_attack=str(excess[1].get("attack", "")),
            shift=shift[0],
            shift_attack=str(shift[1].get("attack", "")),
        )


def _largest(rows: Sequence[Row], name: str) -> tuple[Reading, Row]:
    """The largest figure of some rows, and its row; an empty one where none has it."""
    known = [row for row in rows if not math.isnan(row[name])]
    if not known:
        return Reading(), {}
    row = max(known, key=lambda row: float(row[name]))
    return Reading(row[name], row[f"{name}_low"], row[f"{name}_high"]), row


def _shifts(one: Evaluated, directions: Sequence[str]) -> dict[tuple[str, ...], dict[_Place, list[Row]]]:
    """Scorer -> budget and direction -> rows of the table `shift`, of attacks alone."""
    found: dict[tuple[str, ...], dict[_Place, list[Row]]] = {}
    for row in shift_rows(one, directions):
        if not row["control"] and row["attack"] not in OVER_ALL and row["state"] != "missing":
            who = (row["metric"], row["defense"], row["threat"], row["source"])
            place = Ball(row["norm"], row["eps"]), row["direction"]
            found.setdefault(who, {}).setdefault(place, []).append(row)
    return found


def _ranks(figures: _Figures, grids: Sequence[_Grid], place: _Place, adjust: Adjustment) -> dict[int, tuple[int, int]]:
    """Number of a scorer -> first and last rank; oblivious attacks say nothing of robustness and have none."""
    found: dict[str, Measured] = {}
    for i, grid in enumerate(grids):
        left = grid.left(*place)
        if grid.scorer.threat != "oblivious" and left.mean < math.inf:
            found[str(i)] = mean_of(left.draws)
    return {int(i): range_ for i, range_ in rank_ranges(found, figures.present, adjust).items()}


def _masking(data: RunData, one: Evaluated) -> dict[tuple[str, ...], Masking]:
    """Scorer -> what the verdicts say, the worst outcome that any claim has."""
    rows: dict[tuple[str, ...], list[Row]] = {}
    for row in verdicts_of(data, one):
        rows.setdefault((row["metric"], row["defense"], row["threat"], row["source"]), []).append(row)
    return {who: _worst_verdict(own) for who, own in rows.items()}


def _worst_verdict(rows: Sequence[Row]) -> Masking:
    words: tuple[tuple[str, Flag], ...] = ((FAIL, SUSPECT), (INCONCLUSIVE, UNDECIDED), (PASS, NOT_FLAGGED))
    for outcome, word in words:
        own = [row for row in rows if row["outcome"] == outcome]
        if own:
            row = min(own, key=lambda row: float(row["figure_low"] - row["least"]))
            unit, signed = ("", False) if row["unit"] == "share" else (" σ", True)
            value = with_interval(row["figure"], row["figure_low"], row["figure_high"], 2, signed)
            claims = tuple(str(one["claim"]) for one in own) if outcome != PASS else ()
            return Masking(
                word, claims, f"{row['claim']}: {value}{unit}, least {number(row['least'], 2, signed)}{unit}"
            )
    return Masking()
