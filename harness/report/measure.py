"""The figures of each table, one row per scorer, attack, direction and budget, for one data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.report.arrays import (
    FURTHEST,
    HONEST,
    LOWERING_CONTROL,
    LOWEST_SROCC,
    RAISING_CONTROL,
    Chosen,
    Evaluated,
    ScorerGrid,
    Setting,
    State,
)
from harness.report.worst import asked_again, favoured_draw
from harness.statistics import bootstrap, correlation, directions, ordering, pairs, robustness, two_afc
from harness.statistics.bootstrap import Floats
from harness.statistics.intervals import DESCRIPTIVE_BELOW, Scale, interval
from harness.suite.cell_names import CLEAN

Row = dict[str, Any]
Bools = NDArray[np.bool_]
Measured = tuple[float, Floats]
"""A figure, and the same figure under each row of `Evaluated.multiplicities` [C + B]."""

CONTROL = "control"
"""Direction printed for controls: they have none."""
ALL_TYPES = "all"
"""In place of a distortion type: every image with an opinion, whatever its type."""
LEAST_IMAGES = 8
LEAST_REFERENCES = 5
"""With fewer images or references a distortion type has no figures of its own."""

_Correlated = tuple[list[Measured], list[Measured]]
"""SROCC and PLCC of each draw."""


def srocc_rows(data: Evaluated, directions: Sequence[str], honest: bool = False) -> Iterator[Row]:
    """Rank correlation with the opinions, clean and attacked, and the mean shift of quality beside it.

    Args:
        data: The data set.
        directions: Directions wanted.
        honest: Whether the honest reference has rows as an attack has.
    """
    measure = partial(_sroccs, data, _rated(data))
    present = _present(data, data.codes[_rated(data)])
    for scorer in data.scorers:
        clean = _once(data, ("srocc", scorer, None, ""), partial(measure, scorer.clean))
        if not scorer.settings:
            yield start_row(data, scorer, None, "", scorer.state) | figure("clean_srocc", clean, present, "correlation")
        known = clean if scorer.state == "ok" else []
        over_all: dict[tuple[str, float, str], list[tuple[State, list[Measured], list[Measured]]]] = {}
        more = (*scorer.furthest, *(scorer.honest if honest else ()))
        for setting, direction in _in_order(scorer, directions, more):
            chosen = _choose(data, scorer, setting, direction)
            attacked, worst = [], []
            if chosen.state == "ok":
                attacked = _once(data, ("srocc", scorer, setting, direction), partial(measure, chosen.outcome.attacked))
                picked = _once(
                    data, ("worst srocc", scorer, setting, direction), partial(_worst, scorer, chosen, measure)
                )
                worst = [_lowest([*attacked, *picked])] if picked else []
            row = start_row(data, scorer, setting, direction, chosen.state)
            row |= _srocc_figures(known, attacked, present, worst)
            yield row | {"shift_over_sigma": _shift(data, scorer, setting, direction)["shift_over_sigma"]}
            if not setting.control and setting.attack != HONEST:
                found = over_all.setdefault((setting.norm, setting.eps, direction), [])
                found.append((chosen.state, attacked, worst))
        for (norm, eps, direction), found in over_all.items():
            if len(found) > 1:
                state = _joint_state({state for state, _, _ in found})
                lowest, worst = ([_lowest(figures) for figures in draws] for draws in _by_draw(found, state))
                row = start_row(data, scorer, Setting(LOWEST_SROCC, False, norm, eps, ""), direction, state)
                row |= _srocc_figures(known, lowest, present, worst)
                yield row | {"shift_over_sigma": np.nan}


def _srocc_figures(clean: list[Measured], attacked: list[Measured], present: Bools, worst: Sequence[Measured]) -> Row:
    row = figure("clean_srocc", clean, present, "correlation")
    row |= figure("srocc", attacked, present, "correlation", worst)
    return row | figure("change", _differences(attacked, clean), present)


def _by_draw(
    found: Sequence[tuple[State, list[Measured], list[Measured]]], state: State
) -> tuple[list[tuple[Measured, ...]], list[tuple[Measured, ...]]]:
    """The figures of several attacks side by side: in each draw, and in the worst of them."""
    if state != "ok":
        return [], []
    return (
        list(zip(*(figures for _, figures, _ in found), strict=True)),
        list(zip(*(worst for _, _, worst in found), strict=True)),
    )


def _worst(scorer: ScorerGrid, chosen: Chosen, measure: Callable[[Floats], list[Measured]]) -> list[Measured]:
    """A figure of attacked quality in each image's worst draw; empty where there is but one draw, or no attacker."""
    if not asked_again(scorer.clean) or not (chosen.outcome.sign != 0).any():
        return []
    return measure(favoured_draw(chosen.sign, chosen.outcome.attacked, scorer.clean)[0])


def _lowest(figures: Sequence[Measured]) -> Measured:
    """The lowest of some figures, found anew under every weighting of clusters."""
    return min(value for value, _ in figures), np.min([spread for _, spread in figures], axis=0)


def type_rows(data: Evaluated, directions: Sequence[str]) -> Iterator[Row]:
    """SROCC and PLCC with the opinions over all images and within each distortion type, clean and attacked.

    Clean figures are rows of their own, with attack "clean". A row's images, references, clusters and mark of its
    interval are its type's; resamples are those of every other table, seen where the type has images.
    """
    places = {ALL_TYPES: _rated(data)} | rated_types(data)

    def figures(scorer: ScorerGrid, setting: Setting | None, direction: str, draws: Floats, name: str) -> _Correlated:
        srocc, plcc = (partial(measure, data, places[name], draws) for measure in (_sroccs, _plccs))
        shared = name == ALL_TYPES
        return _once(data, ("srocc", scorer, setting, direction), srocc) if shared else srocc(), plcc()

    def rows(start: Row, after: dict[str, _Correlated], before: dict[str, _Correlated]) -> Iterator[Row]:
        for name, items in places.items():
            srocc, plcc = after.get(name, ([], []))
            present = _present(data, data.codes[items])
            units = int(present.sum())
            row = start | {"type": name, "images": len(items), "references": references_of(data, items)}
            row |= {"clusters": units, "interval": _mark(units)}
            row |= figure("srocc", srocc, present, "correlation") | figure("plcc", plcc, present, "correlation")
            yield row | figure("change", _differences(srocc, before[name][0]) if before else [], present)

    for scorer in data.scorers:
        clean = {}
        if scorer.state == "ok":
            clean = {name: figures(scorer, None, "", scorer.clean, name) for name in places}
        yield from rows(start_row(data, scorer, None, "", scorer.state) | {"attack": CLEAN, "eps": 0.0}, clean, {})
        for setting, direction in _in_order(scorer, directions):
            chosen = _choose(data, scorer, setting, direction)
            attacked = {}
            if chosen.state == "ok":
                draws = chosen.outcome.attacked
                attacked = {name: figures(scorer, setting, direction, draws, name) for name in places}
            yield from rows(start_row(data, scorer, setting, direction, chosen.state), attacked, clean)


def rated_types(data: Evaluated) -> dict[str, bootstrap.Ints]:
    """Distortion type -> its items with opinions, for types of at least 8 of them from at least 5 references."""
    known, groups = _rated(data), np.array(data.groups, dtype=object)
    parts = {name: known[groups[known] == name] for name in dict.fromkeys(groups.tolist()) if name}
    kept = [
        name
        for name, items in parts.items()
        if len(items) >= LEAST_IMAGES and references_of(data, items) >= LEAST_REFERENCES
    ]
    return {name: parts[name] for name in sorted(kept, key=_by_number)}


def references_of(data: Evaluated, items: bootstrap.Ints) -> int:
    """Number of references that some items have."""
    return len({data.references[item] for item in items})


def small_types(data: Evaluated) -> list[str]:
    """Types that have opinions, but too few images or references to correlate within."""
    groups = {data.groups[item] for item in _rated(data)} - {""}
    return sorted(groups - set(rated_types(data)), key=_by_number)


def shift_rows(data: Evaluated, directions: Sequence[str]) -> Iterator[Row]:
    """How far quality moved along the attack, beside what the controls do, and what it cost."""
    for scorer in data.scorers:
        for setting, direction in _in_order(scorer, directions, scorer.furthest):
            yield _shift(data, scorer, setting, direction)


def pair_accuracy_rows(data: Evaluated, margin: float = 0.0) -> Iterator[Row]:
    """Robust pair accuracy: with both images of a pair attacked, or only one of them; and of the honest reference."""
    measure = partial(_pairs, data, margin)
    present = rated_clusters(data)
    for scorer in data.scorers:
        clean = [measure(draw, draw) for draw in scorer.clean] if scorer.state == "ok" else []
        known = figure("clean_accuracy", clean, present, "share")
        settings = [setting for setting in (*scorer.settings, *scorer.furthest) if not setting.control]
        if not settings:
            yield start_row(data, scorer, None, "", scorer.state, attacked="") | known
        for setting in (*settings, *scorer.honest):
            up, down = _choose(data, scorer, setting, "up"), _choose(data, scorer, setting, "down")
            parts: list[tuple[str, State, list[tuple[Floats, Floats]]]] = [
                (
                    "both",
                    _joint_state({up.state, down.state}),
                    list(zip(down.outcome.attacked, up.outcome.attacked, strict=True)),
                ),
                ("worse one up", up.state, list(zip(scorer.clean, up.outcome.attacked, strict=True))),
                ("better one down", down.state, list(zip(down.outcome.attacked, scorer.clean, strict=True))),
            ]
            for name, state, draws in parts:
                if setting.attack == HONEST and name != "both":
                    continue
                figures = [measure(better, worse) for better, worse in draws] if state == "ok" else []
                worst = []
                if figures and asked_again(scorer.clean):
                    better, worse = (np.stack(part) for part in zip(*draws, strict=True))
                    worst = [measure(better.min(axis=0), worse.max(axis=0))]
                row = start_row(data, scorer, setting, "", state, attacked=name) | known
                yield row | figure("accuracy", figures, present, "share", worst)


def frontier_measures(
    data: Evaluated, scorer: ScorerGrid, setting: Setting
) -> tuple[State, list[Measured], list[Measured], list[Measured]]:
    """State, clean SROCC and robust pair accuracy (both images attacked) of each draw, and the latter at its worst."""
    found: tuple[State, list[Measured], list[Measured], list[Measured]] = _once(
        data, ("frontier", scorer, setting), partial(_frontier_measures, data, scorer, setting)
    )
    return found


def _frontier_measures(
    data: Evaluated, scorer: ScorerGrid, setting: Setting
) -> tuple[State, list[Measured], list[Measured], list[Measured]]:
    up, down = _choose(data, scorer, setting, "up"), _choose(data, scorer, setting, "down")
    state = _joint_state({scorer.state, up.state, down.state})
    if state != "ok":
        return state, [], [], []
    clean = _once(data, ("srocc", scorer, None, ""), partial(_sroccs, data, _rated(data), scorer.clean))
    better, worse = down.outcome.attacked, up.outcome.attacked
    robust = [_pairs(data, 0.0, *both) for both in zip(better, worse, strict=True)]
    worst = [_pairs(data, 0.0, better.min(axis=0), worse.max(axis=0))] if asked_again(scorer.clean) else []
    return state, clean, robust, worst


def _pairs(data: Evaluated, margin: float, better: Floats, worse: Floats) -> Measured:
    """Pair accuracy with these qualities of the better and of the worse image, each of shape [N]."""
    counts = pairs.pair_counts(data.opinion, better, worse, data.codes, data.clusters, margin)
    return counts.accuracy(), counts.resampled(data.multiplicities)


def rated_clusters(data: Evaluated) -> Bools:
    """Which clusters have opinions, shape [C]."""
    return _present(data, data.codes[_rated(data)])


def ordering_rows(data: Evaluated) -> Iterator[Row]:
    """L-test (order of levels) and D-test (pristine above distorted), clean and attacked."""
    weaker, stronger = _level_pairs(data)

    def mean(credits: Floats, codes: bootstrap.Ints) -> Measured:
        return float(credits.mean()), bootstrap.resampled_mean(credits, codes, data.multiplicities)

    def levels(low: Floats, high: Floats) -> Measured:
        return mean(ordering.level_credits(low[weaker], high[stronger]), data.codes[weaker])

    def noticed(pristine: Floats, distorted: Floats) -> Measured:
        return mean(ordering.pristine_credits(pristine, distorted), data.codes)

    for scorer in data.scorers:
        settings: list[Setting | None] = [setting for setting in scorer.settings if not setting.control] or [None]
        whole = scorer.state == "ok"
        clean: dict[str, list[Measured]] = {}
        if weaker.size:
            clean["L"] = [levels(draw, draw) for draw in scorer.clean] if whole else []
        if not np.isnan(scorer.pristine).any():
            clean["D"] = [noticed(*both) for both in zip(scorer.pristine, scorer.clean, strict=True)] if whole else []
        for test, setting in ((test, setting) for setting in settings for test in clean):
            present = _present(data, data.codes[weaker] if test == "L" else data.codes)
            known = figure("clean_share", clean[test], present, "share")
            if setting is None:
                yield start_row(data, scorer, None, "", scorer.state, test=test) | known
                continue
            up, down = _choose(data, scorer, setting, "up"), _choose(data, scorer, setting, "down")
            state = _joint_state({up.state, down.state}) if test == "L" else up.state
            figures = []
            if state == "ok" and test == "L":
                figures = [levels(*both) for both in zip(down.outcome.attacked, up.outcome.attacked, strict=True)]
            elif state == "ok":
                figures = [noticed(*both) for both in zip(scorer.pristine, up.outcome.attacked, strict=True)]
            row = start_row(data, scorer, setting, "", state, test=test) | known
            yield row | figure("share", figures, present, "share")


def two_afc_rows(data: Evaluated, direction: str = "pair", honest: bool = False) -> Iterator[Row]:
    """2AFC accuracy (hard) and score (soft), per subset and over all.

    Args:
        data: The data set.
        direction: Names the patches attacked.
        honest: Whether the honest reference has rows as an attack has.
    """
    first, second = _patches(data)
    judge, groups, codes = data.judge[first], np.array(data.groups, dtype=object)[first], data.codes[first]
    subsets = sorted(set(groups.tolist()))
    undecided = int((judge == 0.5).sum())
    counted = {
        (kind, subset): among & (np.isin(subset, ("all", "macro")) | (groups == subset))
        for kind, among in (("hard", judge != 0.5), ("soft", ~np.isnan(judge)))
        for subset in ("all", "macro", *subsets)
    }

    def measures(quality: Floats) -> Iterator[tuple[str, str, Measured]]:
        for kind, credits in (
            ("hard", two_afc.hard_credits(quality[first], quality[second], judge)),
            ("soft", two_afc.soft_credits(quality[first], quality[second], judge)),
        ):
            parts = [_mean(np.where(groups == name, credits, np.nan), codes, data.multiplicities) for name in subsets]
            yield kind, "all", _mean(credits, codes, data.multiplicities)
            if len(subsets) > 1:
                macro = float(np.mean([value for value, _ in parts]))
                yield kind, "macro", (macro, np.mean([spread for _, spread in parts], axis=0))
                yield from ((kind, name, part) for name, part in zip(subsets, parts, strict=True))

    def figures(draws: Floats) -> dict[tuple[str, str], list[Measured]]:
        out: dict[tuple[str, str], list[Measured]] = {}
        for draw in draws:
            for kind, subset, measured in measures(draw):
                out.setdefault((kind, subset), []).append(measured)
        return out

    # Who asks again takes what helps most, of a patch that is left alone, too.
    p0, p1 = directions.pair(data.judge)
    favoured = np.where(np.array(data.patches) == "p1", p1, p0).astype(np.float64)
    for scorer in data.scorers:
        clean = figures(scorer.clean)
        settings: list[Setting | None] = [*scorer.settings, *scorer.furthest, *(scorer.honest if honest else ())]
        for setting in settings or [None]:
            chosen = _choose(data, scorer, setting, CONTROL if setting.control else direction) if setting else None
            for name, attacked in _patches_attacked(scorer, setting, chosen, direction):
                state = chosen.state if chosen else scorer.state
                after = figures(attacked) if state == "ok" else {}
                again = state == "ok" and asked_again(scorer.clean) and name not in (CONTROL, "")
                worst = figures(favoured_draw(favoured, attacked, scorer.clean)[0]) if again else {}
                for (kind, subset), known in clean.items():
                    if name in _ONE_PATCH and direction == "pair" and subset not in ("all", "macro"):
                        continue
                    row = start_row(data, scorer, setting, direction if name not in (CONTROL, "") else name, state)
                    row |= {"attacked": name, "kind": kind, "subset": subset, "undecided": undecided}
                    present = _present(data, codes[counted[kind, subset]])
                    row |= figure("clean_accuracy", known if scorer.state == "ok" else [], present, "share")
                    attacked_figures = after.get((kind, subset), []) if setting else []
                    yield row | figure("accuracy", attacked_figures, present, "share", worst.get((kind, subset), []))


def overall_accuracy(frame: pd.DataFrame) -> pd.Series[bool]:
    """Of `two_afc_rows`, the hard figure over all triplets with every patch attacked that the suite wants attacked."""
    one_of_both = frame["attacked"].isin(_ONE_PATCH) & (frame["direction"] == "pair")
    return (frame["kind"] == "hard") & (frame["subset"] == "all") & ~one_of_both


def overall_accuracy_of(row: Row) -> bool:
    """`overall_accuracy` of a single row; true of one about unattacked patches as well."""
    one_of_both = row["attacked"] in _ONE_PATCH and row["direction"] == "pair"
    return row["kind"] == "hard" and row["subset"] == "all" and not one_of_both


def has_levels(data: Evaluated) -> bool:
    """Whether some reference has one distortion at several levels."""
    return bool(_level_pairs(data)[0].size)


_ONE_PATCH = ("rejected up", "preferred down")


def _patches_attacked(
    scorer: ScorerGrid, setting: Setting | None, chosen: Chosen | None, direction: str
) -> Iterable[tuple[str, Floats]]:
    if setting is None or chosen is None:
        return [("", scorer.clean)]
    if setting.control:
        return [(CONTROL, chosen.outcome.attacked)]
    attacked = chosen.outcome.attacked
    if direction != "pair":
        return [(direction.replace("_", " "), np.where(chosen.sign == 0, scorer.clean, attacked))]
    return [
        ("both", attacked),
        ("rejected up", np.where(chosen.sign > 0, attacked, scorer.clean)),
        ("preferred down", np.where(chosen.sign < 0, attacked, scorer.clean)),
    ]


def _in_order(
    scorer: ScorerGrid, directions: Sequence[str], over_all: Sequence[Setting] = ()
) -> Iterator[tuple[Setting, str]]:
    """Every setting with every direction it has: by attack, then direction, then budget."""
    settings = (*scorer.settings, *over_all)
    for attack, norm, control in dict.fromkeys((one.attack, one.norm, one.control) for one in settings):
        alike = [one for one in settings if (one.attack, one.norm, one.control) == (attack, norm, control)]
        # Which attack makes the largest error cannot be told from the side that an image starts on.
        has = [direction for direction in directions if attack != FURTHEST or direction != "error"]
        for direction in [CONTROL] if control else has:
            yield from ((setting, direction) for setting in alike)


def _shift(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> Row:
    row: Row = _once(data, ("shift", scorer, setting, direction), lambda: _shift_row(data, scorer, setting, direction))
    return row


def _shift_row(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> Row:
    chosen = _choose(data, scorer, setting, direction)
    sign, outcome = chosen.sign, chosen.outcome
    ok = chosen.state == "ok"
    row = start_row(data, scorer, setting, direction, chosen.state)

    def over_sigma(values: Floats, unattacked: Floats = scorer.clean, spread: bool = True) -> list[Measured]:
        return [
            (
                robustness.mean_over_sigma(value, clean),
                robustness.resampled_mean_over_sigma(value, clean, data.codes, data.multiplicities)
                if spread
                else np.empty(0),
            )
            for value, clean in zip(values, unattacked, strict=True)
        ]

    pushed = robustness.push(scorer.clean, outcome.attacked, sign)
    worst: list[Measured] = []
    if ok and asked_again(scorer.clean) and not setting.control:
        gained = favoured_draw(sign, outcome.attacked, scorer.clean)[1]
        worst = over_sigma(gained, scorer.clean.mean(axis=0, keepdims=True))
    row |= figure("shift_over_sigma", over_sigma(pushed) if ok else [], _valued(data, pushed), worst=worst)
    rounded = robustness.push(scorer.clean, outcome.attacked_8bit, sign)
    row["shift_over_sigma_8bit"] = _mean_of(over_sigma(rounded, spread=False)) if ok else np.nan
    own = np.full(sign.shape, np.nan)
    for name, way in ((RAISING_CONTROL, 1), (LOWERING_CONTROL, -1)):
        control = scorer.control(name, setting)
        compared = ok and control.state == "ok" and not setting.control
        alone = robustness.push(scorer.clean, control.attacked, sign)
        if (sign > 0).any() and (sign < 0).any():
            alone = np.where(sign == way, alone, np.nan)
        alone = np.where(sign == 0, np.nan, alone)
        row[f"{name}_over_sigma"] = _mean_of(over_sigma(alone, spread=False)) if compared else np.nan
        beyond = robustness.excess(scorer.clean, outcome.attacked, control.attacked, sign, way)
        figures = over_sigma(beyond) if compared and (sign == way).any() else []
        row |= figure(f"excess_over_{name}", figures, _valued(data, beyond))
        own = np.where(sign == way, beyond if compared else np.nan, own)
        row[f"{name}_state"] = control.state
    complete = not np.isnan(own[sign != 0]).any()
    row |= figure("excess_over_own_control", over_sigma(own) if complete else [], _valued(data, own))
    row["raw_shift"] = float(np.nanmean(pushed)) if ok else np.nan
    row["start_share"] = float(np.nanmean(outcome.started)) if ok and not setting.control else np.nan
    row["forwards"] = float(np.nanmean(outcome.forwards)) if ok else np.nan
    row["backwards"] = float(np.nanmean(outcome.backwards)) if ok else np.nan
    row["queries"] = float(outcome.queries.mean()) if ok else np.nan
    row["milliseconds"] = 1000 * float(np.nanmean(outcome.seconds)) if ok else np.nan
    return row


def _choose(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> Chosen:
    # A control has no direction of its own; "up" makes its change of quality count with its own sign.
    way = "up" if direction == CONTROL else direction
    chosen: Chosen = _once(data, ("choice", scorer, setting, way), lambda: data.choose(scorer, setting, way))
    if scorer.state == "failed" and chosen.state == "ok":
        return Chosen("failed", chosen.sign, chosen.outcome)
    return chosen


def _once(data: Evaluated, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    name = tuple(id(part) if isinstance(part, ScorerGrid) else part for part in key)
    if name not in data.memory:
        data.memory[name] = make()
    return data.memory[name]


def _rated(data: Evaluated) -> bootstrap.Ints:
    """Items with opinions."""
    return np.flatnonzero(~np.isnan(data.opinion)).astype(np.int64)


def _by_number(name: str) -> tuple[bool, int, str]:
    """Types that are numbers in the order of numbers, the others by name after them."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def _sroccs(data: Evaluated, items: bootstrap.Ints, draws: Floats) -> list[Measured]:
    """SROCC of some items with their opinions, for each draw of qualities [draws, all items]."""
    y, weights = data.opinion[items], bootstrap.sample_weights(data.multiplicities, data.codes[items])
    return [(correlation.srocc(x, y), correlation.weighted_srocc(x, y, weights)) for x in draws[:, items]]


def _plccs(data: Evaluated, items: bootstrap.Ints, draws: Floats) -> list[Measured]:
    """PLCC, likewise."""
    y, weights = data.opinion[items], bootstrap.sample_weights(data.multiplicities, data.codes[items])
    return [(correlation.plcc(x, y), correlation.weighted_plcc(x, y, weights)) for x in draws[:, items]]


def _differences(after: Sequence[Measured], before: Sequence[Measured]) -> list[Measured]:
    """Change of a figure, draw by draw and resample by resample."""
    return [(a - b, x - y) for (a, x), (b, y) in zip(after, before, strict=False)]


def _joint_state(states: Set[State]) -> State:
    """The state of a figure that is made of several attacks."""
    return "failed" if "failed" in states else "missing" if "missing" in states else "ok"


def _level_pairs(data: Evaluated) -> tuple[bootstrap.Ints, bootstrap.Ints]:
    found: tuple[bootstrap.Ints, bootstrap.Ints] = _once(
        data, ("levels",), lambda: ordering.level_pairs(data.references, np.array(data.groups), data.levels)
    )
    return found


def _patches(data: Evaluated) -> tuple[bootstrap.Ints, bootstrap.Ints]:
    place = {(sample, patch): i for i, (sample, patch) in enumerate(zip(data.samples, data.patches, strict=True))}
    whole = [sample for sample, patch in place if patch == "p0" and (sample, "p1") in place]
    return (
        np.array([place[sample, "p0"] for sample in whole], dtype=np.int64),
        np.array([place[sample, "p1"] for sample in whole], dtype=np.int64),
    )


def _mean(values: Floats, codes: bootstrap.Ints, multiplicities: bootstrap.Ints) -> Measured:
    known = values[~np.isnan(values)]
    value = float(known.mean()) if known.size else float("nan")
    return value, bootstrap.resampled_mean(values, codes, multiplicities)


def _mean_of(figures: list[Measured]) -> float:
    return float(np.mean([value for value, _ in figures])) if figures else float("nan")


def figure(
    name: str,
    draws: Sequence[Measured],
    present: Bools,
    scale: Scale = "plain",
    worst: Sequence[Measured] | None = None,
) -> Row:
    """Mean over draws, its interval, its bootstrap bias and the spread over draws; nan for no draws.

    Args:
        name: Name of the first column; the others follow it.
        draws: The figure in each draw of a randomised defense.
        present: Which clusters have a part in it, shape [C].
        scale: What the figure is.
        worst: The figure in each image's worst draw, or nothing where there is but one draw; None: without its columns.
    """
    columns = [name, *(f"{name}_{part}" for part in ("low", "high", "bias", "draw_sd"))]
    row = dict.fromkeys(columns, np.nan)
    if draws:
        values = [value for value, _ in draws]
        mean = float(np.mean(values))
        found = interval(mean, np.mean([spread for _, spread in draws], axis=0), len(present), scale, present)
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
        row = dict(zip(columns, (mean, found.low, found.high, found.bias, spread), strict=True))
    if worst is None:
        return row
    known = figure(f"{name}_worst", worst, present, scale)
    return row | {column: known[column] for column in (f"{name}_worst", f"{name}_worst_low", f"{name}_worst_high")}


def _present(data: Evaluated, codes: bootstrap.Ints) -> Bools:
    """Which clusters some items are of, given their codes; shape [C]."""
    return np.asarray(np.bincount(codes, minlength=data.clusters) > 0)


def _valued(data: Evaluated, values: Floats) -> Bools:
    """Which clusters have an item with a value in some draw; values of shape [draws, items]."""
    return _present(data, data.codes[~np.isnan(values).all(axis=0)])


def start_row(
    data: Evaluated, scorer: ScorerGrid, setting: Setting | None, direction: str, state: State, **extra: str
) -> Row:
    """What every row says before its figures: whose it is, under which attack, from how many images."""
    return {
        "dataset": data.name,
        "metric": scorer.metric,
        "defense": scorer.defense,
        "threat": scorer.threat,
        "source": scorer.source,
        "broken": scorer.broken,
        "attack": setting.attack if setting else "",
        "control": setting.control if setting else False,
        "norm": setting.norm if setting else "",
        "eps": setting.eps if setting else np.nan,
        "direction": direction,
        **extra,
        "state": state,
        "labels": data.facts.labels,
        "images": len(data.items) if data.facts.kind == "pairs" else len(set(data.samples)),
        "references": len(set(data.references)),
        "clusters": data.clusters,
        "draws": len(scorer.clean),
        "interval": _mark(data.clusters),
    }


def _mark(clusters: int) -> str:
    if clusters < 2:
        return "none"
    return "descriptive" if clusters < DESCRIPTIVE_BELOW else "95 % studentised"
