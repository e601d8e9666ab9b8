"""The table of the scores that MSU's benchmark of attacks prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from harness.report.arrays import Evaluated
from harness.report.data import RunData
from harness.report.layout import (
    Layout,
    attack_of,
    budget_of,
    direction_of,
    figure_text,
    for_terminal,
    plain_text,
    scorer_of,
    stated,
    usual_of,
)
from harness.report.rows import Measured, Row, choose, clusters_with_values, figure, in_order, mean_of_known, start_row
from harness.report.table import Table, make_table, table
from harness.statistics import gains
from harness.statistics.bootstrap import Floats
from harness.statistics.integral import r_scores
from harness.statistics.transport import min_max
from harness.wording import number

_COLUMNS = {
    "absolute gain": "absolute_gain",
    "relative gain": "relative_gain",
    "classic relative gain": "classic_relative_gain",
    "R": "r",
}
_SHORT = {"abs. gain": "absolute_gain", "rel. gain": "relative_gain", "R": "r"}
_DISTANCES = {"Wasserstein": "wasserstein", "energy": "energy"}


@table(
    "msu",
    place=32,
    default=False,
    explains="The scores of MSU's benchmark: absolute, relative and classic relative gain, R-score, signed Wasserstein "
    "and energy distance, on scores scaled by the evaluated clean ones.",
)
def msu_table(data: RunData, one: Evaluated) -> Table | None:
    """Gains, R-score and distances; for pairs that are attacked."""
    if one.facts.kind != "pairs":
        return None
    rows = list(msu_rows(data, one))
    if not rows:
        return None
    distances = {title: _signed(name) for title, name in _DISTANCES.items()}
    return make_table(
        "msu",
        one,
        data,
        "The scores of MSU's benchmark",
        "Scores are scaled so that the clean ones of these images fill [0, 1]. Gain: the mean change of quality, of s "
        "or relative to s + 1 (classic: to the score as it is, which means nothing where scores cross 0); R: the "
        "mean of log10(max(1 − s, s) / |s − s'|), higher is more robust. Wasserstein and energy: distance of the two "
        "distributions, with the sign of the shift of their mean, and without interval, as theirs.",
        rows,
        _layout(rows, {**{title: _with_interval(name) for title, name in _COLUMNS.items()}, **distances}),
        _layout(
            _at_usual_budgets(for_terminal(rows)),
            {**{title: _plain(name) for title, name in _SHORT.items()}, **distances},
        ),
        data.directions,
    )


def msu_rows(data: RunData, one: Evaluated) -> Iterator[Row]:
    """A row per scorer, attack, direction and budget, controls among them."""
    for scorer in one.scorers:
        lower = scorer.metric in data.lower_is_better
        for setting, direction in in_order(scorer, data.directions):
            chosen = choose(one, scorer, setting, direction)
            row = start_row(one, scorer, setting, direction, chosen.state)
            draws = []
            if chosen.state == "ok":
                draws = list(zip(scorer.clean, chosen.outcome.attacked, strict=True))
            values = [_values(clean, attacked, lower) for clean, attacked in draws]
            for name in _COLUMNS.values():
                found = [value[name] for value in values]
                present = clusters_with_values(one, np.array(found)) if found else np.ones(one.clusters, dtype=bool)
                row |= figure(name, [_mean(one, x) for x in found], present)
            for name, distance in (("wasserstein", gains.wasserstein_score), ("energy", gains.energy_score)):
                known = [_distance(distance, clean, attacked) for clean, attacked in draws]
                row[name] = float(np.mean(known)) if known else np.nan
            yield row


def _values(clean: Floats, attacked: Floats, lower: bool) -> dict[str, Floats]:
    """Each score of each image; nan where it was left alone, or where clean scores are all alike."""
    s, changed = _scaled(clean, attacked)
    return {
        "absolute_gain": gains.absolute_gain(s, changed),
        "relative_gain": gains.relative_gain(s, changed, lower),
        "classic_relative_gain": gains.classic_relative_gain(clean, attacked, lower),
        "r": r_scores(s, changed),
    }


def _scaled(clean: Floats, attacked: Floats) -> tuple[Floats, Floats]:
    if np.ptp(clean) == 0:
        return np.full_like(clean, np.nan), np.full_like(clean, np.nan)
    return min_max(clean, clean), min_max(attacked, clean)


def _distance(distance: Callable[[Floats, Floats], float], clean: Floats, attacked: Floats) -> float:
    s, changed = _scaled(clean, attacked)
    there = ~np.isnan(changed)
    return distance(s[there], changed[there]) if there.any() else np.nan


def _mean(one: Evaluated, values: Floats) -> Measured:
    return mean_of_known(values, one.codes, one.multiplicities)


def _at_usual_budgets(rows: Sequence[Row]) -> list[Row]:
    """For the terminal, one budget of each norm."""
    usual = {
        norm: usual_of(row["eps"] for row in rows if row["norm"] == norm) for norm in {row["norm"] for row in rows}
    }
    return [row for row in rows if row["eps"] == usual[row["norm"]]]


def _with_interval(name: str) -> Callable[[Row], str]:
    return lambda row: figure_text(row, name, signed=name != "r")


def _plain(name: str) -> Callable[[Row], str]:
    return lambda row: plain_text(row, name) if name == "r" else number(row[name], 2, True)


def _signed(name: str) -> Callable[[Row], str]:
    return lambda row: number(row[name], 2, True)


def _layout(rows: Sequence[Row], columns: dict[str, Callable[[Row], str]]) -> Layout:
    body = tuple(
        (
            *(scorer_of(row), attack_of(row), direction_of(row), budget_of(row)),
            *(stated(row, column) for column in columns.values()),
        )
        for row in rows
    )
    return Layout(("metric", "attack", "direction", "ε", *columns), body, 4)
