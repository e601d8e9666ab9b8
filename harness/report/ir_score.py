"""The figures of the IR-Score: for each scorer and attack, R at every budget and both integrals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.report.arrays import FURTHEST, MEAN_OVER_ATTACKS, Evaluated, ScorerGrid, Setting, State
from harness.report.common_domain import CommonDomain, NoDomainError, Scaled
from harness.report.data import RunData
from harness.report.rows import (
    Bools,
    Measured,
    Row,
    choose,
    clusters_with_values,
    figure,
    joint_state,
    mean_of,
    start_row,
)
from harness.statistics.bootstrap import Floats, resampled_mean
from harness.statistics.integral import UNMOVED, budget_weights, r_scores
from harness.wording import NO_DEFENSE


@dataclass(frozen=True)
class _Found:
    """What is known of one scorer under one attack; figures are there for each draw, or not at all."""

    scorer: ScorerGrid
    settings: Sequence[Setting]
    """The attack at its budgets, in increasing order."""
    state: State
    r: Sequence[Sequence[Measured]] = ()
    """R at each budget."""
    mean_r: Sequence[Measured] = ()
    """R over all budgets."""
    moved: Sequence[Measured] = ()
    """Mean |s' - s| over all budgets: the area over the width."""
    unmoved: Sequence[int] = ()
    """Images that moved less than `UNMOVED`, at each budget."""
    present: Bools | None = None
    """Which clusters have an image with a figure, shape [C]."""

    @property
    def attack(self) -> tuple[str, str]:
        """Its label and norm."""
        return self.settings[0].attack, self.settings[0].norm


@dataclass(frozen=True)
class IrScores:
    """The rows of a data set, and what is to be said under them."""

    rows: Sequence[Row]
    apart: bool
    """Whether maps were fitted on a split of their own."""
    unmapped: Sequence[str] = field(default_factory=list)
    """Scorers without a map, each with the reason."""


def ir_scores(data: RunData, one: Evaluated) -> IrScores:
    """Of every scorer that is attacked at two budgets or more; transfers are left out.

    Rows stand for a budget each, the integrals being the same in all rows of an attack. ``relative_area`` is 1 less the
    area under the mean movement over that of the same metric without a defense.
    """
    domain, unmapped, found = CommonDomain(data, one), [], []
    for scorer in one.scorers:
        lines = _lines(data, scorer)
        if not lines:
            continue
        try:
            scaled = domain.scaled(scorer) if scorer.state == "ok" else None
        except NoDomainError as error:
            unmapped.append(str(error))
            scaled = None
        own = [_measured(data, one, scorer, line, scaled) for line in lines]
        found += [*own, *_mean_over_attacks(own)]
    bases = {(part.scorer.metric, *part.attack): part for part in found if part.scorer.defense == NO_DEFENSE}
    rows = [row for part in found for row in _rows(data, one, part, bases.get((part.scorer.metric, *part.attack)))]
    return IrScores(rows, domain.apart, list(dict.fromkeys(unmapped)))


def _lines(data: RunData, scorer: ScorerGrid) -> list[list[Setting]]:
    """Each attack that has budgets to integrate over, at these in increasing order."""
    if scorer.threat == "transfer":
        return []
    lines: dict[tuple[str, str], list[Setting]] = {}
    for setting in (*scorer.settings, *scorer.furthest):
        if not setting.control:
            lines.setdefault((setting.attack, setting.norm), []).append(setting)
    least = 1 if data.ir_score.rule == "mean" else 2
    return [sorted(line, key=lambda one: one.eps) for line in lines.values() if len(line) >= least]


def _measured(
    data: RunData, one: Evaluated, scorer: ScorerGrid, line: Sequence[Setting], scaled: Scaled | None
) -> _Found:
    chosen = [choose(one, scorer, setting, data.ir_score.direction) for setting in line]
    state = joint_state({scorer.state, *(each.state for each in chosen)})
    if state != "ok" or scaled is None:
        return _Found(scorer, line, state)
    clean = scaled(scorer.clean)
    attacked = np.stack([scaled(each.outcome.attacked) for each in chosen])
    weights = budget_weights([setting.eps for setting in line], data.ir_score.rule)
    r, moved = r_scores(clean, attacked), np.abs(attacked - clean)  # budgets x draws x items
    return _Found(
        scorer,
        line,
        state,
        [_means(one, values) for values in r],
        _means(one, np.tensordot(weights, r, 1)),
        _means(one, np.tensordot(weights, moved, 1)),
        [int((values < UNMOVED).any(axis=0).sum()) for values in moved],
        clusters_with_values(one, moved.reshape(-1, moved.shape[-1])),
    )


def _means(one: Evaluated, draws: Floats) -> list[Measured]:
    """The mean over images in each draw."""
    return [(float(np.nanmean(x)), resampled_mean(x, one.codes, one.multiplicities)) for x in draws]


def _mean_over_attacks(found: Sequence[_Found]) -> Iterator[_Found]:
    """The mean of all attacks of a norm, where there are several with the same budgets."""
    for norm in dict.fromkeys(part.attack[1] for part in found):
        parts = [part for part in found if part.attack[1] == norm and part.attack[0] != FURTHEST]
        radii = {tuple(setting.eps for setting in part.settings) for part in parts}
        if len(parts) < 2 or len(radii) > 1:
            continue
        state = joint_state({part.state for part in parts})
        settings = [Setting(MEAN_OVER_ATTACKS, False, norm, eps, "") for eps in radii.pop()]
        if state != "ok" or not all(part.mean_r for part in parts):
            yield _Found(parts[0].scorer, settings, state)
            continue
        r = [_mean_of(budget) for budget in zip(*(part.r for part in parts), strict=True)]
        mean_r, moved = (_mean_of(kind) for kind in ([p.mean_r for p in parts], [p.moved for p in parts]))
        unmoved = [max(counts) for counts in zip(*(part.unmoved for part in parts), strict=True)]
        yield _Found(parts[0].scorer, settings, state, r, mean_r, moved, unmoved, parts[0].present)


def _mean_of(parts: Sequence[Sequence[Measured]]) -> list[Measured]:
    """The mean of several figures, draw by draw and resample by resample."""
    return [mean_of(draw) for draw in zip(*parts, strict=True)]


def _rows(data: RunData, one: Evaluated, part: _Found, base: _Found | None) -> Iterator[Row]:
    present = np.ones(one.clusters, dtype=bool) if part.present is None else part.present
    whole = figure("mean_r", part.mean_r, present) | figure("relative_area", _relative(part, base), present)
    for number, setting in enumerate(part.settings):
        row = start_row(one, part.scorer, setting, data.ir_score.direction, part.state)
        row |= figure("r", part.r[number] if part.r else [], present)
        row |= {"unmoved": part.unmoved[number] if part.unmoved else np.nan}
        yield row | whole


def _relative(part: _Found, base: _Found | None) -> list[Measured]:
    """1 - area / area of the undefended metric, in each draw; 0 for the latter itself, and none without one."""
    if base is None or not part.moved or not base.moved or base.moved[0][0] == 0:
        return []
    if [one.eps for one in part.settings] != [one.eps for one in base.settings]:  # areas over other budgets
        return []
    (area, spread), *_ = base.moved
    if part is base:
        return [(0.0, np.zeros_like(spread))]
    with np.errstate(divide="ignore", invalid="ignore"):  # a resample in which nothing moved has no ratio
        return [(1 - own / area, 1 - own_spread / spread) for own, own_spread in part.moved]
