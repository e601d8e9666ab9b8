"""The figures of each table of pairs, one row per scorer, attack, direction and budget, for one data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from harness.report.arrays import (
    HONEST,
    LOWEST_SROCC,
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
    differences,
    figure,
    figures,
    in_order,
    interval_mark,
    joint_state,
    lowest_of,
    once,
    prepare,
    start_row,
)
from harness.report.shifts import shifts_of
from harness.report.worst import asked_again, favoured_draw
from harness.statistics import bootstrap, correlation, ordering, pairs
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
    places = [(*place, choose(data, scorer, *place)) for place in in_order(scorer, directions, more)]
    wanted = ((("srocc", scorer, *place), one.outcome.attacked) for *place, one in places if one.state == "ok")
    prepare(data, wanted, measure)
    for setting, direction, chosen in places:
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
        found = list(attacked_sroccs(data, scorer, directions, honest))
        there, attacked = [present] * len(found), [one.attacked for one in found]
        left = figures("srocc", attacked, there, "correlation", [one.worst for one in found])
        changes = figures("change", [differences(draws, clean) for draws in attacked], there)
        moved = [(one.setting, one.direction) for one in found if one.setting.attack != LOWEST_SROCC]
        shifts = dict(zip(moved, shifts_of(data, scorer, moved), strict=True))
        for one, *parts in zip(found, left, changes, strict=True):
            row = start_row(data, scorer, one.setting, one.direction, one.state) | known | parts[0] | parts[1]
            shift = shifts.get((one.setting, one.direction), {"shift_over_sigma": np.nan})
            yield row | {"shift_over_sigma": shift["shift_over_sigma"]}


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

    def measured(scorer: ScorerGrid, name: str, wanted: Sequence[tuple[Setting | None, str, Floats]]) -> list[_OfType]:
        """SROCC and PLCC of a type under some attacks, from (setting, direction, qualities)."""
        keyed = [(_srocc_key(scorer, setting, direction, name), draws) for setting, direction, draws in wanted]
        prepare(data, keyed, partial(_sroccs, data, places[name]))
        sroccs = [once(data, key, partial(_sroccs, data, places[name], draws)) for key, draws in keyed]
        return list(zip(sroccs, (_plccs(data, places[name], draws) for *_, draws in wanted), strict=True))

    def rows(starts: Sequence[Row], wanted: Sequence[list[_OfType]], name: str) -> list[Row]:
        """The rows of one type: clean, then under every attack."""
        items = places[name]
        present = clusters_of(data, data.codes[items])
        units = int(present.sum())
        about = {"type": name, "images": len(items), "references": references_of(data, items)}
        about |= {"clusters": units, "interval": interval_mark(units)}
        there = [present] * len(starts)
        sroccs = [one[0][0] if one else [] for one in wanted]
        plccs = [one[0][1] if one else [] for one in wanted]
        clean = sroccs[0]
        changes = [[], *(differences(after, clean) for after in sroccs[1:])]
        parts = (
            figures("srocc", sroccs, there, "correlation"),
            figures("plcc", plccs, there, "correlation"),
            figures("change", changes, there),
        )
        return [start | about | one | two | three for start, one, two, three in zip(starts, *parts, strict=True)]

    for scorer in data.scorers:
        chosen = [(*place, choose(data, scorer, *place)) for place in in_order(scorer, directions)]
        starts = [start_row(data, scorer, None, "", scorer.state) | {"attack": CLEAN, "eps": 0.0}]
        starts += [start_row(data, scorer, setting, way, one.state) for setting, way, one in chosen]
        draws: list[tuple[Setting | None, str, Floats] | None]
        draws = [(None, "", scorer.clean) if scorer.state == "ok" else None]
        draws += [(setting, way, one.outcome.attacked) if one.state == "ok" else None for setting, way, one in chosen]
        by_type = []
        for name in places:
            found = iter(measured(scorer, name, [one for one in draws if one is not None]))
            by_type.append(rows(starts, [[next(found)] if one is not None else [] for one in draws], name))
        yield from (row for alike in zip(*by_type, strict=True) for row in alike)


def _srocc_key(scorer: ScorerGrid, setting: Setting | None, direction: str, name: str) -> tuple[Any, ...]:
    """What `once` knows the SROCC within a type as; that of all images is what other tables have too."""
    return ("srocc", scorer, setting, direction, *([] if name == ALL_TYPES else [name]))


def type_sroccs(
    data: Evaluated, whose: tuple[ScorerGrid, Setting | None, str], draws: Floats, name: str, items: bootstrap.Ints
) -> list[Measured]:
    """SROCC with the opinions within a type, of each draw, found once for all tables and figures.

    Args:
        data: The data set.
        whose: Scorer, attack (None: clean) and direction ("" for clean).
        draws: The qualities, [draws, items].
        name: The type.
        items: Its items with opinions.
    """
    key = _srocc_key(*whose, name)
    found: list[Measured] = once(data, key, partial(_sroccs, data, items, draws))
    return found


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


def pair_accuracy_rows(data: Evaluated) -> Iterator[Row]:
    """Robust pair accuracy: with both images of a pair attacked, or only one of them; and of the honest reference."""
    present = rated_clusters(data)
    for scorer in data.scorers:
        clean = [_pairs(data, draw, draw) for draw in scorer.clean] if scorer.state == "ok" else []
        known = figure("clean_accuracy", clean, present, "share")
        settings = [setting for setting in (*scorer.settings, *scorer.furthest) if not setting.control]
        if not settings:
            yield start_row(data, scorer, None, "", scorer.state, attacked="") | known
        places = [
            (setting, name)
            for setting in (*settings, *scorer.honest)
            for name in (("both",) if setting.attack == HONEST else ("both", "worse one up", "better one down"))
        ]
        found = [_robust_pairs(data, scorer, *place) for place in places]
        draws, worst = [one[1] for one in found], [one[2] for one in found]
        kept = figures("accuracy", draws, [present] * len(found), "share", worst)
        for (setting, name), (state, *_), row in zip(places, found, kept, strict=True):
            yield start_row(data, scorer, setting, "", state, attacked=name) | known | row


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
    opinions = opinion_pairs(data, data.margin)
    every = once(data, ("pairs in resamples",), lambda: pairs.resampled_sum(opinions.total, data.multiplicities))
    counts = opinions.counts(better, worse)
    return counts.accuracy(), counts.resampled(data.multiplicities, every)


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
    known = draws[:, items]
    return list(zip(correlation.sroccs(known, y), ranks.sroccs(known), strict=True))


def _plccs(data: Evaluated, items: bootstrap.Ints, draws: Floats) -> list[Measured]:
    """PLCC, likewise."""
    y, codes = data.opinion[items], data.codes[items]
    return [
        (correlation.plcc(x, y), correlation.resampled_plcc(x, y, codes, data.multiplicities)) for x in draws[:, items]
    ]
