"""The figures of each table of pairs, one row per scorer, attack, direction and budget, for one data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from harness.report.arrays import (
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
from harness.report.rows import (
    Bools,
    Measured,
    Row,
    choose,
    clusters_of,
    clusters_with_values,
    differences,
    figure,
    in_order,
    interval_mark,
    joint_state,
    lowest_of,
    mean_over_draws,
    once,
    start_row,
)
from harness.report.worst import asked_again, favoured_draw
from harness.statistics import bootstrap, correlation, ordering, pairs, robustness
from harness.statistics.bootstrap import Floats
from harness.suite.cell_names import CLEAN

ALL_TYPES = "all"
"""In place of a distortion type: every image with an opinion, whatever its type."""

LEAST_IMAGES = 8

LEAST_REFERENCES = 5
"""With fewer images or references a distortion type has no figures of its own."""

_OfType = tuple[list[Measured], list[Measured]]
"""SROCC and PLCC of each draw."""


class Correlated(NamedTuple):
    """SROCC under an attack: of each draw, and where several were scored the lowest of them and of the worst pick."""

    setting: Setting
    direction: str
    state: State
    attacked: list[Measured]
    worst: list[Measured]


def clean_sroccs(data: Evaluated, scorer: ScorerGrid) -> list[Measured]:
    """SROCC of clean quality with the opinions, of each draw; none where the scorer failed."""
    if scorer.state != "ok":
        return []
    found: list[Measured] = once(data, ("srocc", scorer, None, ""), partial(_sroccs, data, rated(data), scorer.clean))
    return found


def attacked_sroccs(
    data: Evaluated, scorer: ScorerGrid, directions: Sequence[str], honest: bool = False
) -> Iterator[Correlated]:
    """SROCC under every attack and control, then the lowest of the attacks at each budget that several were run at.

    Args:
        data: The data set.
        scorer: Whose quality.
        directions: Directions wanted.
        honest: Whether the honest reference is told of as an attack is.
    """
    measure = partial(_sroccs, data, rated(data))
    more = (*scorer.furthest, *(scorer.honest if honest else ()))
    over_all: dict[tuple[str, float, str], list[Correlated]] = {}
    for setting, direction in in_order(scorer, directions, more):
        chosen = choose(data, scorer, setting, direction)
        attacked, worst = [], []
        if chosen.state == "ok":
            attacked = once(data, ("srocc", scorer, setting, direction), partial(measure, chosen.outcome.attacked))
            picked = once(data, ("worst srocc", scorer, setting, direction), partial(_worst, scorer, chosen, measure))
            worst = [lowest_of([*attacked, *picked])] if picked else []
        found = Correlated(setting, direction, chosen.state, attacked, worst)
        yield found
        if not setting.control and setting.attack != HONEST:
            over_all.setdefault((setting.norm, setting.eps, direction), []).append(found)
    for (norm, eps, direction), several in over_all.items():
        if len(several) > 1:
            state = joint_state({one.state for one in several})
            lowest, worst = _by_draw(several, state)
            yield Correlated(Setting(LOWEST_SROCC, False, norm, eps, ""), direction, state, lowest, worst)


def _by_draw(several: Sequence[Correlated], state: State) -> tuple[list[Measured], list[Measured]]:
    """The lowest of several attacks: in each draw, and in the worst of them."""
    if state != "ok":
        return [], []
    draws = zip(*(one.attacked for one in several), strict=True)
    worst = zip(*(one.worst for one in several), strict=True)
    return [lowest_of(figures) for figures in draws], [lowest_of(figures) for figures in worst]


def srocc_rows(data: Evaluated, directions: Sequence[str], honest: bool = False) -> Iterator[Row]:
    """Rank correlation with the opinions, clean and attacked, and the mean shift of quality beside it.

    Args:
        data: The data set.
        directions: Directions wanted.
        honest: Whether the honest reference has rows as an attack has.
    """
    present = rated_clusters(data)
    for scorer in data.scorers:
        clean = clean_sroccs(data, scorer)
        known = figure("clean_srocc", clean, present, "correlation")
        if not scorer.settings:
            yield start_row(data, scorer, None, "", scorer.state) | known
        for setting, direction, state, attacked, worst in attacked_sroccs(data, scorer, directions, honest):
            row = start_row(data, scorer, setting, direction, state) | known
            row |= figure("srocc", attacked, present, "correlation", worst)
            row |= figure("change", differences(attacked, clean), present)
            over_all = setting.attack == LOWEST_SROCC
            shift = np.nan if over_all else _shift(data, scorer, setting, direction)["shift_over_sigma"]
            yield row | {"shift_over_sigma": shift}


def _worst(scorer: ScorerGrid, chosen: Chosen, measure: Callable[[Floats], list[Measured]]) -> list[Measured]:
    """A figure of attacked quality in each image's worst draw; empty where there is but one draw, or no attacker."""
    if not asked_again(scorer.clean) or not (chosen.outcome.sign != 0).any():
        return []
    return measure(favoured_draw(chosen.sign, chosen.outcome.attacked, scorer.clean)[0])


def type_rows(data: Evaluated, directions: Sequence[str]) -> Iterator[Row]:
    """SROCC and PLCC with the opinions over all images and within each distortion type, clean and attacked.

    Clean figures are rows of their own, with attack "clean". A row's images, references, clusters and mark of its
    interval are its type's; resamples are those of every other table, seen where the type has images.
    """
    places = {ALL_TYPES: rated(data)} | rated_types(data)

    def figures(scorer: ScorerGrid, setting: Setting | None, direction: str, draws: Floats, name: str) -> _OfType:
        srocc, plcc = (partial(measure, data, places[name], draws) for measure in (_sroccs, _plccs))
        shared = name == ALL_TYPES
        return once(data, ("srocc", scorer, setting, direction), srocc) if shared else srocc(), plcc()

    def rows(start: Row, after: dict[str, _OfType], before: dict[str, _OfType]) -> Iterator[Row]:
        for name, items in places.items():
            srocc, plcc = after.get(name, ([], []))
            present = clusters_of(data, data.codes[items])
            units = int(present.sum())
            row = start | {"type": name, "images": len(items), "references": references_of(data, items)}
            row |= {"clusters": units, "interval": interval_mark(units)}
            row |= figure("srocc", srocc, present, "correlation") | figure("plcc", plcc, present, "correlation")
            yield row | figure("change", differences(srocc, before[name][0]) if before else [], present)

    for scorer in data.scorers:
        clean = {}
        if scorer.state == "ok":
            clean = {name: figures(scorer, None, "", scorer.clean, name) for name in places}
        yield from rows(start_row(data, scorer, None, "", scorer.state) | {"attack": CLEAN, "eps": 0.0}, clean, {})
        for setting, direction in in_order(scorer, directions):
            chosen = choose(data, scorer, setting, direction)
            attacked = {}
            if chosen.state == "ok":
                draws = chosen.outcome.attacked
                attacked = {name: figures(scorer, setting, direction, draws, name) for name in places}
            yield from rows(start_row(data, scorer, setting, direction, chosen.state), attacked, clean)


def type_sroccs(data: Evaluated, draws: Floats, items: bootstrap.Ints) -> list[Measured]:
    """SROCC with the opinions within some items, such as those of a type, for each draw of qualities [draws, items]."""
    return _sroccs(data, items, draws)


def rated_types(data: Evaluated) -> dict[str, bootstrap.Ints]:
    """Distortion type -> its items with opinions, for types of at least 8 of them from at least 5 references."""
    known, groups = rated(data), np.array(data.groups, dtype=object)
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
    groups = {data.groups[item] for item in rated(data)} - {""}
    return sorted(groups - set(rated_types(data)), key=_by_number)


def shift_rows(data: Evaluated, directions: Sequence[str], honest: bool = False) -> Iterator[Row]:
    """How far quality moved along the attack, beside what the controls do, and what it cost.

    Args:
        data: The data set.
        directions: Directions wanted.
        honest: Whether the honest reference has rows as an attack has.
    """
    for scorer in data.scorers:
        for setting, direction in in_order(scorer, directions, (*scorer.furthest, *(scorer.honest if honest else ()))):
            yield _shift(data, scorer, setting, direction)


def pair_accuracy_rows(data: Evaluated) -> Iterator[Row]:
    """Robust pair accuracy: with both images of a pair attacked, or only one of them; and of the honest reference."""
    present = rated_clusters(data)
    for scorer in data.scorers:
        clean = [_pairs(data, draw, draw) for draw in scorer.clean] if scorer.state == "ok" else []
        known = figure("clean_accuracy", clean, present, "share")
        settings = [setting for setting in (*scorer.settings, *scorer.furthest) if not setting.control]
        if not settings:
            yield start_row(data, scorer, None, "", scorer.state, attacked="") | known
        for setting in (*settings, *scorer.honest):
            for name in ("both",) if setting.attack == HONEST else ("both", "worse one up", "better one down"):
                state, figures, worst = _robust_pairs(data, scorer, setting, name)
                row = start_row(data, scorer, setting, "", state, attacked=name) | known
                yield row | figure("accuracy", figures, present, "share", worst)


def _robust_pairs(
    data: Evaluated, scorer: ScorerGrid, setting: Setting, attacked: str
) -> tuple[State, list[Measured], list[Measured]]:
    """State, pair accuracy of each draw, and in the draws most in the attacker's favour where there are several."""
    found: tuple[State, list[Measured], list[Measured]] = once(
        data,
        ("pairs", scorer, setting, attacked),
        lambda: _robust_pairs_of(data, scorer, setting, attacked),
    )
    return found


def _robust_pairs_of(
    data: Evaluated, scorer: ScorerGrid, setting: Setting, attacked: str
) -> tuple[State, list[Measured], list[Measured]]:
    up, down = choose(data, scorer, setting, "up"), choose(data, scorer, setting, "down")
    parts = {
        "both": ({up.state, down.state}, down.outcome.attacked, up.outcome.attacked),
        "worse one up": ({up.state}, scorer.clean, up.outcome.attacked),
        "better one down": ({down.state}, down.outcome.attacked, scorer.clean),
    }
    states, better, worse = parts[attacked]
    state = joint_state(states)
    if state != "ok":
        return state, [], []
    figures = [_pairs(data, *draw) for draw in zip(better, worse, strict=True)]
    again = asked_again(scorer.clean)
    return state, figures, [_pairs(data, better.min(axis=0), worse.max(axis=0))] if again else []


def frontier_measures(
    data: Evaluated, scorer: ScorerGrid, setting: Setting
) -> tuple[State, list[Measured], list[Measured], list[Measured]]:
    """State, clean SROCC and robust pair accuracy (both images attacked) of each draw, and the latter at its worst."""
    state, robust, worst = _robust_pairs(data, scorer, setting, "both")
    state = joint_state({scorer.state, state})
    if state != "ok":
        return state, [], [], []
    return state, clean_sroccs(data, scorer), robust, worst


def _pairs(data: Evaluated, better: Floats, worse: Floats) -> Measured:
    """Pair accuracy with these qualities of the better and of the worse image, each of shape [N]."""
    counts = opinion_pairs(data, data.margin).counts(better, worse)
    return counts.accuracy(), counts.resampled(data.multiplicities)


def opinion_pairs(data: Evaluated, margin: float = 0.0) -> pairs.OpinionPairs:
    """The pairs of images that the opinions order by more than a margin, whatever the metric and the attack."""
    found: pairs.OpinionPairs = once(
        data, ("pairs of opinions", margin), lambda: pairs.OpinionPairs(data.opinion, data.codes, data.clusters, margin)
    )
    return found


def rated_clusters(data: Evaluated) -> Bools:
    """Which clusters have opinions, shape [C]."""
    return clusters_of(data, data.codes[rated(data)])


def ordering_rows(data: Evaluated) -> Iterator[Row]:
    """L-test (order of levels) and D-test (pristine above distorted), clean and attacked.

    Beside the L-test stands the oracle's share: that of the opinions themselves, where they are known.
    """
    weaker, stronger = pairs_of_levels(data)
    distorted = np.flatnonzero(data.identical != 1)
    places = {"L": weaker, "D": distorted}
    oracle = {"L": _oracle(data.opinion[weaker], data.opinion[stronger]), "D": np.nan}

    def mean(credits: Floats, codes: bootstrap.Ints) -> Measured:
        return float(credits.mean()), bootstrap.resampled_mean(credits, codes, data.multiplicities)

    def levels(low: Floats, high: Floats) -> Measured:
        return mean(ordering.level_credits(low[weaker], high[stronger]), data.codes[weaker])

    def noticed(pristine: Floats, quality: Floats) -> Measured:
        return mean(ordering.pristine_credits(pristine[distorted], quality[distorted]), data.codes[distorted])

    for scorer in data.scorers:
        settings: list[Setting | None] = [setting for setting in scorer.settings if not setting.control] or [None]
        whole = scorer.state == "ok"
        clean: dict[str, list[Measured]] = {}
        if weaker.size:
            clean["L"] = [levels(draw, draw) for draw in scorer.clean] if whole else []
        if distorted.size and not np.isnan(scorer.pristine).any():
            clean["D"] = [noticed(*both) for both in zip(scorer.pristine, scorer.clean, strict=True)] if whole else []
        for test, setting in ((test, setting) for setting in settings for test in clean):
            present = clusters_of(data, data.codes[places[test]])
            known = {"oracle_share": oracle[test]} | figure("clean_share", clean[test], present, "share")
            if setting is None:
                yield start_row(data, scorer, None, "", scorer.state, test=test) | known
                continue
            up, down = choose(data, scorer, setting, "up"), choose(data, scorer, setting, "down")
            state = joint_state({up.state, down.state}) if test == "L" else up.state
            figures = []
            if state == "ok" and test == "L":
                figures = [levels(*both) for both in zip(down.outcome.attacked, up.outcome.attacked, strict=True)]
            elif state == "ok":
                figures = [noticed(*both) for both in zip(scorer.pristine, up.outcome.attacked, strict=True)]
            row = start_row(data, scorer, setting, "", state, test=test) | known
            yield row | figure("share", figures, present, "share")


def pairs_of_levels(data: Evaluated) -> tuple[bootstrap.Ints, bootstrap.Ints]:
    """The weaker and the stronger image of each pair of the L-test; of groups whose levels are no strength none."""
    found: tuple[bootstrap.Ints, bootstrap.Ints] = once(data, ("levels",), lambda: _pairs_of_levels(data))
    return found


def _pairs_of_levels(data: Evaluated) -> tuple[bootstrap.Ints, bootstrap.Ints]:
    groups = np.array(data.groups)
    return ordering.level_pairs(
        data.references, groups, np.where(np.isin(groups, list(data.not_strength)), np.nan, data.levels)
    )


def _oracle(weaker: Floats, stronger: Floats) -> float:
    """The L-test's figure of opinions [P]; nan unless every image has one."""
    known = weaker.size and not np.isnan(weaker + stronger).any()
    return float(ordering.level_credits(weaker, stronger).mean()) if known else float("nan")


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
    codes, m = data.codes, data.multiplicities
    return [
        (
            robustness.mean_over_sigma(push, scores),
            robustness.resampled_mean_over_sigma(push, scores, codes, m) if spread else np.empty(0),
        )
        for push, scores in zip(pushed, clean, strict=True)
    ]


def _shift(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> Row:
    row: Row = once(data, ("shift", scorer, setting, direction), lambda: _shift_row(data, scorer, setting, direction))
    return row


def _shift_row(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> Row:
    chosen = choose(data, scorer, setting, direction)
    sign, outcome = chosen.sign, chosen.outcome
    ok = chosen.state == "ok"
    row = start_row(data, scorer, setting, direction, chosen.state)

    over_sigma = partial(shifts_over_sigma, data, scorer.clean)

    pushed = pushes(scorer, chosen)
    worst: list[Measured] = []
    if ok and asked_again(scorer.clean) and not setting.control:
        gained = favoured_draw(sign, outcome.attacked, scorer.clean)[1]
        worst = shifts_over_sigma(data, scorer.clean.mean(axis=0, keepdims=True), gained)
    row |= figure("shift_over_sigma", over_sigma(pushed) if ok else [], clusters_with_values(data, pushed), worst=worst)
    rounded = robustness.push(scorer.clean, outcome.attacked_8bit, sign)
    row["shift_over_sigma_8bit"] = mean_over_draws(over_sigma(rounded, spread=False)) if ok else np.nan
    own = np.full(sign.shape, np.nan)
    for name, way in ((RAISING_CONTROL, 1), (LOWERING_CONTROL, -1)):
        control = scorer.control(name, setting)
        compared = ok and control.state == "ok" and not setting.control
        alone = robustness.push(scorer.clean, control.attacked, sign)
        if (sign > 0).any() and (sign < 0).any():
            alone = np.where(sign == way, alone, np.nan)
        alone = np.where(sign == 0, np.nan, alone)
        row[f"{name}_over_sigma"] = mean_over_draws(over_sigma(alone, spread=False)) if compared else np.nan
        beyond = robustness.excess(scorer.clean, outcome.attacked, control.attacked, sign, way)
        figures = over_sigma(beyond) if compared and (sign == way).any() else []
        row |= figure(f"excess_over_{name}", figures, clusters_with_values(data, beyond))
        own = np.where(sign == way, beyond if compared else np.nan, own)
        row[f"{name}_state"] = control.state
    complete = not np.isnan(own[sign != 0]).any()
    row |= figure("excess_over_own_control", over_sigma(own) if complete else [], clusters_with_values(data, own))
    row["raw_shift"] = float(np.nanmean(pushed)) if ok else np.nan
    row["start_share"] = float(np.nanmean(outcome.started)) if ok and not setting.control else np.nan
    row["forwards"] = float(np.nanmean(outcome.forwards)) if ok else np.nan
    row["backwards"] = float(np.nanmean(outcome.backwards)) if ok else np.nan
    row["queries"] = float(outcome.queries.mean()) if ok else np.nan
    row["milliseconds"] = 1000 * float(np.nanmean(outcome.seconds)) if ok else np.nan
    return row


def rated(data: Evaluated) -> bootstrap.Ints:
    """Items with opinions."""
    return np.flatnonzero(~np.isnan(data.opinion)).astype(np.int64)


def _by_number(name: str) -> tuple[bool, int, str]:
    """Types that are numbers in the order of numbers, the others by name after them."""
    return (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)


def _sroccs(data: Evaluated, items: bootstrap.Ints, draws: Floats) -> list[Measured]:
    """SROCC of some items with their opinions, for each draw of qualities [draws, all items]."""
    y, codes = data.opinion[items], data.codes[items]
    # Whatever the metric and the attack, opinions have the same ranks.
    ranks = once(data, ("ranks", items.tobytes()), lambda: correlation.OpinionRanks(y, codes, data.multiplicities))
    return [(correlation.srocc(x, y), ranks.srocc(x)) for x in draws[:, items]]


def _plccs(data: Evaluated, items: bootstrap.Ints, draws: Floats) -> list[Measured]:
    """PLCC, likewise."""
    y, codes = data.opinion[items], data.codes[items]
    return [
        (correlation.plcc(x, y), correlation.resampled_plcc(x, y, codes, data.multiplicities)) for x in draws[:, items]
    ]
