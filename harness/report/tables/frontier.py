"""The clean-robust frontier: every scorer a point, and paths of interpolated weights compared at equal clean SROCC."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from harness.report.arrays import FURTHEST, Evaluated, ScorerGrid, Setting, State
from harness.report.data import RunData
from harness.report.layout import Layout, at_largest_budget, figure_text, plain_text, stated
from harness.report.measure import frontier_measures, rated_clusters
from harness.report.rows import Measured, Row, figure, start_row
from harness.report.table import ASSUMPTION, Table, has_opinions, labels_text, make_table, table
from harness.report.tables.pair_accuracy import NO_BOUND
from harness.statistics.bootstrap import Floats
from harness.statistics.frontier import at_level, common_levels
from harness.wording import MISSING, NO_DEFENSE, attack_text, budget_text, marked

POINT, AT_LEVEL, CONTRAST = "point", "equal clean SROCC", "difference at equal clean SROCC"
"""What a row is: a scorer, a path at a clean level, or one path less another there."""
CLEAN_LEVELS = ("lowest common clean", "half way to the base")


def path_of(defense: str) -> tuple[str, float]:
    """The path that a defense lies on and its share of the defended weights: "aat@0.25" is ("aat", 0.25).

    Its path is what stands before the last '@'; without a share it is the end of a path of its own name. The base is
    the start of all paths, ("", 0).
    """
    if defense == NO_DEFENSE:
        return "", 0.0
    name, _, share = defense.rpartition("@")
    try:
        known = float(share)
    except ValueError:
        return defense, 1.0
    return (name, known) if name and 0 <= known <= 1 else (defense, 1.0)


def frontier_rows(one: Evaluated) -> Iterator[Row]:
    """Points of every scorer, attack and budget, then the paths of each metric at equal clean SROCC.

    Oblivious attacks and transfers have no point: they say nothing of robustness.
    """
    shown = [scorer for scorer in one.scorers if scorer.threat in ("none", "adaptive")]
    for metric in dict.fromkeys(scorer.metric for scorer in shown if scorer.defense != NO_DEFENSE):
        own = [scorer for scorer in shown if scorer.metric == metric]
        settings = [setting for scorer in own for setting in (*scorer.settings, *scorer.furthest)]
        for setting in dict.fromkeys(setting for setting in settings if not setting.control):
            measured = {}
            for scorer in own:
                state, clean, robust, worst = frontier_measures(one, scorer, setting)
                if state != "missing":  # only one end was attacked
                    yield _point(one, scorer, setting, state, clean, robust, worst)
                if state == "ok":
                    measured[scorer.defense] = _mean(clean), _mean(robust)
            yield from _levels(one, own[0], setting, measured)


def _point(
    one: Evaluated,
    scorer: ScorerGrid,
    setting: Setting,
    state: State,
    clean: list[Measured],
    robust: list[Measured],
    worst: list[Measured],
) -> Row:
    path, share = path_of(scorer.defense)
    present = rated_clusters(one)
    row = start_row(one, scorer, setting, "", state)
    row |= {"kind": POINT, "path": path, "share": share, "against": "", "level": ""}
    row |= figure("clean_srocc", clean, present, "correlation")
    row |= figure("accuracy", robust, present, "share", worst)
    honest: list[Measured] = []
    for other in scorer.honest:
        if (other.norm, other.eps) == (setting.norm, setting.eps):
            honest = frontier_measures(one, scorer, other)[2]
    return row | figure("honest", honest, present, "share")


def _mean(draws: Sequence[Measured]) -> Floats:
    """A figure's mean over draws: the whole sample's first, then under each weighting, shape [1 + C + B]."""
    whole: Floats = np.mean([np.concatenate([[value], spread]) for value, spread in draws], axis=0)
    return whole


def paths_of(measured: Mapping[str, tuple[Floats, Floats]]) -> dict[str, tuple[Floats, Floats]]:
    """Path -> clean and robust figures of its points from the base on, each of shape [P, W].

    A path has points between its ends: a straight line from a base to one defended model is of no models.
    """
    if NO_DEFENSE not in measured:
        return {}
    paths: dict[str, dict[float, str]] = {}
    for defense in measured:
        path, share = path_of(defense)
        if defense != NO_DEFENSE and share > 0:
            # Of "aat" and "aat@1", the same weights, the first stands for both.
            paths.setdefault(path, {}).setdefault(share, defense)
    found = {}
    for path, points in paths.items():
        if any(share < 1 for share in points):
            ordered = [NO_DEFENSE, *(points[share] for share in sorted(points))]
            clean, robust = (np.stack([measured[name][part] for name in ordered]) for part in (0, 1))
            found[path] = clean, robust
    return found


def _levels(
    one: Evaluated, scorer: ScorerGrid, setting: Setting, measured: Mapping[str, tuple[Floats, Floats]]
) -> Iterator[Row]:
    """Every path of a metric at the common clean levels, its gain over the base, and the paths against each other."""
    paths = paths_of(measured)
    falling = [clean for clean, _ in paths.values() if clean[:, 0].min() < clean[0, 0]]
    if not falling:
        return
    present = rated_clusters(one)
    base = measured[NO_DEFENSE][1]
    for name, level in zip(CLEAN_LEVELS, common_levels(falling), strict=True):
        start = start_row(one, scorer, setting, "", "ok") | {"threat": "", "draws": 1, "share": np.nan, "level": name}
        start |= figure("clean_srocc", [_measured(level)], present, "correlation")
        reached = {path: at_level(clean, robust, level) for path, (clean, robust) in paths.items()}
        for path, robust in reached.items():
            row = start | {"kind": AT_LEVEL, "defense": path, "path": path, "against": ""}
            row |= figure("accuracy", [_measured(robust)], present, "share")
            yield row | figure("over_base", [_measured(robust - base)], present)
        for path, other in combinations(reached, 2):
            row = start | {"kind": CONTRAST, "defense": path, "path": path, "against": other}
            yield row | figure("accuracy", [_measured(reached[path] - reached[other])], present)


def _measured(values: Floats) -> Measured:
    return float(values[0]), values[1:]


@table(
    "frontier",
    place=64,
    explains="Clean SROCC against robust pair accuracy, every metric and defense a point, and paths of interpolated "
    "weights (`robustiqa weights mix`) at equal clean SROCC; for data sets of pairs.",
)
def frontier_table(data: RunData, one: Evaluated) -> Table | None:
    """The frontier; for pairs with opinions, where some metric has a defense that was attacked through."""
    if one.facts.kind != "pairs" or not has_opinions(one):
        return None
    rows = list(frontier_rows(one))
    if not rows:
        return None
    return make_table(
        "frontier",
        one,
        data,
        f"Clean-robust frontier against {labels_text(one)}",
        "A defense that gives up clean accuracy for robustness may be no better than the base moved along the same "
        "trade-off. So each scorer stands with both figures, and paths of weights interpolated between a base and a "
        "defended model are compared where their clean SROCC is equal.",
        rows,
        _full(rows),
        _compact(rows),
        (),
        _note(rows),
        NO_BOUND if any(not math.isnan(row.get("honest", math.nan)) for row in rows) else "",
        ASSUMPTION,
    )


def _note(rows: Sequence[Row]) -> str:
    told = (
        "Robust pair accuracy is that of both images attacked, through the defense; oblivious attacks and transfers "
        "have no point here. "
    )
    if not any(row["kind"] == AT_LEVEL for row in rows):
        return told + (
            "No path has points between its ends: make some with `robustiqa weights mix`, and list them as defenses "
            "whose labels end in @SHARE, to compare at equal clean SROCC."
        )
    return told + (
        "Equal clean SROCC: straight lines between neighbouring points of a path, read where the path first comes by "
        f"the level from the base; intervals find levels and readings anew without each cluster. {CLEAN_LEVELS[0]} = "
        f"the lowest clean SROCC that all paths reach; {CLEAN_LEVELS[1]} = half way from there to the base's. A path "
        "that never falls below the base's trades nothing and has no figure there."
    )


def strongest(rows: Sequence[Row]) -> list[Row]:
    """The rows of the furthest of all attacks at the budgets that have it, and of every attack at the others."""
    known = {(row["norm"], row["eps"]) for row in rows if row["attack"] == FURTHEST}
    return [row for row in rows if row["attack"] == FURTHEST or (row["norm"], row["eps"]) not in known]


def _named(row: Row) -> str:
    if row["kind"] == POINT:
        threat = " (adaptive)" if row["threat"] == "adaptive" else ""
        return f"{row['defense']}{threat}"
    less = f" − {row['against']}" if row["kind"] == CONTRAST else ""
    return f"{row['path']}{less}, {row['level']}"


_COLUMNS = {
    "clean SROCC": "clean_srocc",
    "robust pair accuracy": "accuracy",
    "over the base": "over_base",
    "honest": "honest",
}
"""Header -> figure."""


def _full(rows: Sequence[Row]) -> Layout:
    """The strongest attack at every budget, with intervals."""
    return _layout(
        strongest(rows), True, "Every attack is in the CSV; here, the furthest of all where there are several."
    )


def _compact(rows: Sequence[Row]) -> Layout:
    """The strongest at the largest budgets, without intervals."""
    told = at_largest_budget(strongest(rows))
    return _layout(told, False, "The strongest attack at its largest budget; the page has intervals and the picture.")


def _layout(rows: Sequence[Row], full: bool, note: str) -> Layout:
    columns = {
        head: name for head, name in _COLUMNS.items() if any(not math.isnan(row.get(name, math.nan)) for row in rows)
    }
    places = ("attack", "ε") if full else ("ε",)
    body = []
    for row in rows:
        where = (attack_text(row["attack"], row["norm"]), budget_text(row["norm"], row["eps"]))
        cells = (_cell(row, name, full) for name in columns.values())
        body.append((marked(row["metric"], row["broken"]), *where[-len(places) :], _named(row), *cells))
    return Layout(("metric", *places, "defense", *columns), tuple(body), 2 + len(places), note)


def _cell(row: Row, name: str, full: bool) -> str:
    if row["state"] != "ok" or math.isnan(row.get(name, math.nan)):
        return stated(row, _missing)
    if full:
        signed = name == "over_base" or (name == "accuracy" and row["kind"] == CONTRAST)
        return figure_text(row, name, signed)
    return plain_text(row, name)


def _missing(_: Row) -> str:
    return MISSING
