"""What every row of figures is made of: whose it is, and each figure with its interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.report.arrays import FURTHEST, Chosen, Evaluated, ScorerGrid, Setting, State
from harness.statistics import bootstrap
from harness.statistics.bootstrap import Floats
from harness.statistics.intervals import DESCRIPTIVE_BELOW, Scale, intervals

Row = dict[str, Any]

Bools = NDArray[np.bool_]

Measured = tuple[float, Floats]
"""A figure, and the same figure under each row of `Evaluated.multiplicities` [C + B]."""

CONTROL = "control"
"""Direction printed for controls: they have none."""


def lowest_of(figures: Sequence[Measured]) -> Measured:
    """The lowest of some figures, found anew under every weighting of clusters."""
    return min(value for value, _ in figures), np.min([spread for _, spread in figures], axis=0)


def mean_of(figures: Sequence[Measured]) -> Measured:
    """The mean of some figures, such as of those of each draw, found anew under every weighting of clusters."""
    if len(figures) == 1:
        return figures[0]
    return float(np.mean([value for value, _ in figures])), np.mean([spread for _, spread in figures], axis=0)


def in_order(
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


def choose(data: Evaluated, scorer: ScorerGrid, setting: Setting, direction: str) -> Chosen:
    """An attack in a direction, found once; failed where the scorer itself has failed."""
    # A control has no direction of its own; "up" makes its change of quality count with its own sign.
    way = "up" if direction == CONTROL else direction
    chosen: Chosen = once(data, ("choice", scorer, setting, way), lambda: data.choose(scorer, setting, way))
    if scorer.state == "failed" and chosen.state == "ok":
        return Chosen("failed", chosen.sign, chosen.outcome)
    return chosen


def once(data: Evaluated, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
    """What several tables need of a data set, made for the first that asks."""
    name = _name(key)
    if name not in data.memory:
        data.memory[name] = make()
    return data.memory[name]


def _name(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(id(part) if isinstance(part, ScorerGrid) else part for part in key)


def differences(after: Sequence[Measured], before: Sequence[Measured]) -> list[Measured]:
    """Change of a figure, draw by draw and resample by resample."""
    return [(a - b, x - y) for (a, x), (b, y) in zip(after, before, strict=False)]


def joint_state(states: Set[State]) -> State:
    """The state of a figure that is made of several attacks."""
    return "failed" if "failed" in states else "missing" if "missing" in states else "ok"


def mean_of_known(values: Floats, codes: bootstrap.Ints, multiplicities: bootstrap.Multiplicities) -> Measured:
    """Mean of the values that are there, each of shape [N] with its cluster; nan for none."""
    known = values[~np.isnan(values)]
    value = float(known.mean()) if known.size else float("nan")
    return value, bootstrap.resampled_mean(values, codes, multiplicities)


def mean_over_draws(figures: list[Measured]) -> float:
    """Mean of a figure over draws; nan for none."""
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
    return figures(name, [draws], [present], scale, None if worst is None else [worst])[0]


def figures(
    name: str,
    draws: Sequence[Sequence[Measured]],
    present: Sequence[Bools],
    scale: Scale = "plain",
    worst: Sequence[Sequence[Measured]] | None = None,
) -> list[Row]:
    """`figure` of several rows, whose intervals are found together; arguments as there, one of each for each row."""
    columns = [name, *(f"{name}_{part}" for part in ("low", "high", "bias", "draw_sd"))]
    rows: list[Row] = [dict.fromkeys(columns, np.nan) for _ in draws]
    alike: dict[bytes, list[int]] = {}
    for place, own in enumerate(draws):
        if own:
            alike.setdefault(present[place].tobytes(), []).append(place)
    for places in alike.values():
        means = [mean_of(draws[place]) for place in places]
        there = present[places[0]]
        found = intervals([value for value, _ in means], np.stack([x for _, x in means]), len(there), scale, there)
        for place, (mean, _), one in zip(places, means, found, strict=True):
            values = [value for value, _ in draws[place]]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else np.nan
            rows[place] = dict(zip(columns, (mean, one.low, one.high, one.bias, spread), strict=True))
    if worst is None:
        return rows
    extra = figures(f"{name}_worst", worst, present, scale)
    shown = (f"{name}_worst", f"{name}_worst_low", f"{name}_worst_high")
    return [row | {column: more[column] for column in shown} for row, more in zip(rows, extra, strict=True)]


def prepare(
    data: Evaluated,
    wanted: Iterable[tuple[tuple[Any, ...], Floats]],
    make: Callable[[Floats], Sequence[Measured]],
) -> None:
    """Make what `once` is to give, of many keys in one go.

    Args:
        data: The data set.
        wanted: Keys, each with the qualities of each draw [draws, items]; those that are known are passed over.
        make: Figures of many qualities [Q, items], one of each.
    """
    new = {name: draws for key, draws in wanted if (name := _name(key)) not in data.memory}
    if not new:
        return
    made = list(make(np.concatenate(list(new.values()))))
    for name, draws in new.items():
        data.memory[name], made = made[: len(draws)], made[len(draws) :]


def clusters_of(data: Evaluated, codes: bootstrap.Ints) -> Bools:
    """Which clusters some items are of, given their codes; shape [C]."""
    return np.asarray(np.bincount(codes, minlength=data.clusters) > 0)


def clusters_with_values(data: Evaluated, values: Floats) -> Bools:
    """Which clusters have an item with a value in some draw; values of shape [draws, items]."""
    return clusters_of(data, data.codes[~np.isnan(values).all(axis=0)])


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
        "interval": interval_mark(data.clusters),
    }


def interval_mark(clusters: int) -> str:
    """What the interval of a figure of so many clusters is, as the column `interval` says it."""
    if clusters < 2:
        return "none"
    return "descriptive" if clusters < DESCRIPTIVE_BELOW else "95 % studentised"
