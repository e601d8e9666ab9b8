"""How far attacks moved quality, beside what the controls do and what it cost: a row per scorer, attack and budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from harness.report.arrays import LOWERING_CONTROL, RAISING_CONTROL, Chosen, Evaluated, ScorerGrid, Setting
from harness.report.rows import (
    Bools,
    Measured,
    Row,
    choose,
    clusters_with_values,
    figures,
    in_order,
    mean_over_draws,
    once,
    start_row,
)
from harness.report.worst import asked_again, favoured_draw
from harness.statistics import bootstrap, robustness
from harness.statistics.bootstrap import Floats

_Place = tuple[Setting, str]
"""An attack or control at a budget, and a direction."""


def shift_rows(data: Evaluated, directions: Sequence[str], honest: bool = False) -> Iterator[Row]:
    """How far quality moved along the attack, beside what the controls do, and what it cost.

    Args:
        data: The data set.
        directions: Directions wanted.
        honest: Whether the honest reference has rows as an attack has.
    """
    for scorer in data.scorers:
        more = (*scorer.furthest, *(scorer.honest if honest else ()))
        yield from shifts_of(data, scorer, list(in_order(scorer, directions, more)))


def shifts_of(data: Evaluated, scorer: ScorerGrid, places: Sequence[_Place]) -> list[Row]:
    """The rows of `shift_rows` of some attacks in some directions, made once."""
    keys = {place: ("shift", id(scorer), *place) for place in places}
    new = [place for place, key in keys.items() if key not in data.memory]
    data.memory.update(zip((keys[place] for place in new), _shift_rows(data, scorer, new), strict=True))
    return [data.memory[keys[place]] for place in places]


def pushes(scorer: ScorerGrid, chosen: Chosen) -> Floats:
    """How far an attack moved the quality of each image along its direction, [draws, items]."""
    return robustness.push(scorer.clean, chosen.outcome.attacked, chosen.sign)


def shifts_over_sigma(data: Evaluated, clean: Floats, pushed: Floats, spread: bool = True) -> list[Measured]:
    """Mean push of each draw in standard deviations of clean scores.

    Args:
        data: The data set.
        clean: Clean scores of all images, [draws, items].
        pushed: Pushes, of the same shape; nan is left out.
        spread: Whether it is found under every weighting of clusters too.
    """
    return [
        (robustness.mean_over_sigma(push, scores), _resampled(data, push, scores) if spread else np.empty(0))
        for push, scores in zip(pushed, clean, strict=True)
    ]


def _resampled(data: Evaluated, push: Floats, clean: Floats) -> Floats:
    """`robustness.resampled_mean_over_sigma`, whose divisor is the same for all attacks on a scorer."""
    codes, m = data.codes, data.multiplicities
    sigmas = once(data, ("sigma", clean.tobytes()), lambda: robustness.resampled_sigma(clean, codes, m))
    return bootstrap.ratio(bootstrap.resampled_mean(push, codes, m), sigmas)


class _Figure(NamedTuple):
    """A figure of one row: of each draw, and which clusters have a part in it."""

    draws: list[Measured]
    present: Bools
    worst: list[Measured]


class _Shift(NamedTuple):
    """A row but for intervals."""

    start: Row
    shift: _Figure
    rounded: float
    excess: Mapping[str, tuple[float, _Figure, str]]
    """Control -> its own shift, the excess over it, its state."""
    own: _Figure
    last: Row


def _shift_rows(data: Evaluated, scorer: ScorerGrid, places: Sequence[_Place]) -> Iterator[Row]:
    found = [_shift(data, scorer, *place) for place in places]

    def told(name: str, those: Sequence[_Figure], worst: bool = False) -> list[Row]:
        more = [one.worst for one in those] if worst else None
        return figures(name, [one.draws for one in those], [one.present for one in those], "plain", more)

    shifts = told("shift_over_sigma", [one.shift for one in found], worst=True)
    controls = (RAISING_CONTROL, LOWERING_CONTROL)
    beyond = {name: told(f"excess_over_{name}", [one.excess[name][1] for one in found]) for name in controls}
    own = told("excess_over_own_control", [one.own for one in found])
    for place, one in enumerate(found):
        row = one.start | shifts[place] | {"shift_over_sigma_8bit": one.rounded}
        for name in controls:
            alone, _, state = one.excess[name]
            row |= {f"{name}_over_sigma": alone} | beyond[name][place] | {f"{name}_state": state}
        yield row | own[place] | one.last


def _shift(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> _Shift:
    chosen = choose(data, scorer, setting, direction)
    sign, outcome = chosen.sign, chosen.outcome
    ok = chosen.state == "ok"
    over_sigma = partial(shifts_over_sigma, data, scorer.clean)
    pushed = pushes(scorer, chosen)
    worst: list[Measured] = []
    if ok and asked_again(scorer.clean) and not setting.control:
        gained = favoured_draw(sign, outcome.attacked, scorer.clean)[1]
        worst = shifts_over_sigma(data, scorer.clean.mean(axis=0, keepdims=True), gained)
    rounded = robustness.push(scorer.clean, outcome.attacked_8bit, sign)
    own = np.full(sign.shape, np.nan)
    excess = {}
    for name, way in ((RAISING_CONTROL, 1), (LOWERING_CONTROL, -1)):
        control = scorer.control(name, setting)
        compared = ok and control.state == "ok" and not setting.control
        alone = robustness.push(scorer.clean, control.attacked, sign)
        if (sign > 0).any() and (sign < 0).any():
            alone = np.where(sign == way, alone, np.nan)
        alone = np.where(sign == 0, np.nan, alone)
        beyond = robustness.excess(scorer.clean, outcome.attacked, control.attacked, sign, way)
        draws = over_sigma(beyond) if compared and (sign == way).any() else []
        excess[name] = (
            mean_over_draws(over_sigma(alone, spread=False)) if compared else np.nan,
            _Figure(draws, clusters_with_values(data, beyond), []),
            control.state,
        )
        own = np.where(sign == way, beyond if compared else np.nan, own)
    complete = not np.isnan(own[sign != 0]).any()
    return _Shift(
        start_row(data, scorer, setting, direction, chosen.state),
        _Figure(over_sigma(pushed) if ok else [], clusters_with_values(data, pushed), worst),
        mean_over_draws(over_sigma(rounded, spread=False)) if ok else np.nan,
        excess,
        _Figure(over_sigma(own) if complete else [], clusters_with_values(data, own), []),
        {
            "raw_shift": float(np.nanmean(pushed)) if ok else np.nan,
            "start_share": float(np.nanmean(outcome.started)) if ok and not setting.control else np.nan,
            "forwards": float(np.nanmean(outcome.forwards)) if ok else np.nan,
            "backwards": float(np.nanmean(outcome.backwards)) if ok else np.nan,
            "queries": float(outcome.queries.mean()) if ok else np.nan,
            "milliseconds": 1000 * float(np.nanmean(outcome.seconds)) if ok else np.nan,
        },
    )
