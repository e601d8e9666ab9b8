"""The other figures of agreement with the opinions: KROCC, PLCC as it is and after logistic maps, and RMSE."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.report.arrays import Evaluated, ScorerGrid, Setting, State
from harness.report.measure import opinion_pairs, rated, rated_clusters
from harness.report.rows import Measured, Row, choose, figure, in_order, start_row
from harness.statistics import bootstrap, correlation, pairs
from harness.statistics.bootstrap import Floats
from harness.statistics.logistic import CURVES, LogisticMap, fit_logistic
from harness.suite.cell_names import CLEAN

FITTED = "ok"


def agreement_rows(data: Evaluated, directions: Sequence[str]) -> Iterator[Row]:
    """A row for each scorer clean (attack "clean"), and under each attack; maps are those fitted to clean quality.

    Args:
        data: The data set.
        directions: Directions wanted.
    """
    items = rated(data)
    for scorer in data.scorers:
        draws = scorer.clean if scorer.state == "ok" else np.empty((0, len(data.items)))
        maps = [[fit_logistic(draw[items], data.opinion[items], count) for count in CURVES] for draw in draws]
        yield _row(data, scorer, None, "", scorer.state, draws, maps) | {"attack": CLEAN, "eps": 0.0}
        for setting, direction in in_order(scorer, directions, scorer.furthest):
            chosen = choose(data, scorer, setting, direction)
            attacked = chosen.outcome.attacked if chosen.state == "ok" else draws[:0]
            yield _row(data, scorer, setting, direction, chosen.state, attacked, maps)


def _row(
    data: Evaluated,
    scorer: ScorerGrid,
    setting: Setting | None,
    direction: str,
    state: State,
    draws: Floats,
    maps: Sequence[Sequence[LogisticMap]],
) -> Row:
    present = rated_clusters(data)
    row = start_row(data, scorer, setting, direction, state)
    row |= figure("krocc", [_krocc(data, draw) for draw in draws], present, "correlation")
    row |= figure("plcc", [_plcc(data, draw) for draw in draws], present, "correlation")
    for place, count in enumerate(CURVES):
        fitted = [own[place] for own in maps]
        mapped = [fit(draw) for fit, draw in zip(fitted, draws, strict=False)]
        row |= figure(f"plcc{count}", [_plcc(data, draw) for draw in mapped], present, "correlation")
        row |= figure(f"rmse{count}", [_rmse(data, draw) for draw in mapped], present)
        failed = dict.fromkeys(fit.failed for fit in fitted if fit.failed)
        row[f"fit{count}"] = "; ".join(failed) if failed else FITTED if fitted else ""
    return row


def _krocc(data: Evaluated, quality: Floats) -> Measured:
    everyone = np.ones((1, data.clusters), dtype=np.int64)
    found = pairs.krocc(opinion_pairs(data), quality, np.vstack([everyone, data.multiplicities]))
    return float(found[0]), found[1:]


def _plcc(data: Evaluated, quality: Floats) -> Measured:
    items = rated(data)
    x, y = quality[items], data.opinion[items]
    return correlation.plcc(x, y), correlation.resampled_plcc(x, y, data.codes[items], data.multiplicities)


def _rmse(data: Evaluated, mapped: Floats) -> Measured:
    """Root of the mean squared error in opinions, [0, 1]."""
    squares = (mapped - data.opinion) ** 2
    known = squares[~np.isnan(squares)]
    value = float(np.sqrt(known.mean())) if known.size else float("nan")
    return value, np.sqrt(bootstrap.resampled_mean(squares, data.codes, data.multiplicities))
