"""Transport in one dimension: maps that take the qualities of one scorer into a domain that scorers share.

Scores of different metrics cannot be compared, nor can their changes under attack. A map that is fitted on clean
qualities, and applied to clean and attacked ones alike, takes them where they can. With the squared distance as cost
the optimal map in one dimension is the monotone one, T = F_target^-1 o F_source; `quantile` is that map, and `emd`
reads it off the plan that POT solves. `weak` has the cost |x - E[T|x]|^2 of weak optimal transport (Gozlan et al. 2017;
Backhoff-Veraguas et al. 2019), whose map moves each quality to the mean of where it is sent: where the target is wider
than the source it is little more than a shift. The two `neural` ones learn the same maps by neural optimal transport
(Korotin et al., ICLR 2023), as the code behind the IR-Score does with the weak cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.statistics.bootstrap import Floats

LEAST_VALUES = 3
"""Distinct values on either side without which there is no map: two can be matched by any line."""
_OUTER = 0.05
"""Share of the source at either end whose slope the map goes on with beyond that end."""
_SLOPES = (0.2, 5.0)
"""Least and steepest slope beyond the ends."""
_WEAK_POINTS = 100
"""Quantiles of either side that the weak plan is solved for: its cost grows with the cube of their number."""
_GRID = np.linspace(-0.5, 1.5, 513)
"""Where a learnt map is read off, in units of the source's range; beyond, it is taken to go on straight."""


@dataclass(frozen=True)
class PiecewiseMap:
    """A map that is linear between knots and goes on straight beyond the outermost.

    >>> double = PiecewiseMap(np.array([0.0, 1.0]), np.array([0.0, 2.0]), 2.0, 0.5)
    >>> double(np.array([-1.0, 0.25, 2.0])).tolist()
    [-2.0, 0.5, 2.5]
    """

    x: Floats
    """Knots in the source's units, increasing, shape [K]."""
    y: Floats
    """Where they go, shape [K]."""
    low_slope: float
    """Slope below the first knot."""
    high_slope: float
    """Slope above the last."""

    def __call__(self, values: Floats) -> Floats:
        """Mapped values of any shape; nan stays nan."""
        inside = np.interp(values, self.x, self.y)
        below = np.minimum(values - self.x[0], 0.0) * self.low_slope
        above = np.maximum(values - self.x[-1], 0.0) * self.high_slope
        return np.asarray(inside + below + above)


def fit_map(mapping: str, source: Floats, target: Floats, seed: int = 0) -> PiecewiseMap:
    """The map of one distribution to another.

    Args:
        mapping: One of `MAPPINGS`.
        source: Sample of the distribution to map, shape [N]; for `weak` and the neural ones in the target's units.
        target: Sample of the distribution to map to, shape [M].
        seed: Of what is learnt; the other maps need none.

    Raises:
        ValueError: A side has fewer than `LEAST_VALUES` distinct values (`weak`: quantiles), or one that is not finite.
    """
    for name, sample in (("source", source), ("target", target)):
        if not np.isfinite(sample).all():
            raise ValueError(f"the {name} has a value that is not finite")
        count = len(np.unique(sample))
        if count < LEAST_VALUES:
            raise ValueError(
                f"the {name} has {count} distinct value{'' if count == 1 else 's'}, and {LEAST_VALUES} are needed"
            )
        if mapping == "weak" and len(np.unique(_for_weak(sample))) < LEAST_VALUES:
            raise ValueError(
                f"the {name} is nearly constant: fewer than {LEAST_VALUES} of its quantiles are distinct, which the "
                "weak map is made of"
            )
    return MAPPINGS[mapping](np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64), seed)


def min_max(values: Floats, fitted_on: Floats) -> Floats:
    """Values scaled so that the sample they are fitted on fills [0, 1]; others may leave it.

    Args:
        values: Of any shape.
        fitted_on: Sample of shape [N] with two distinct values or more.
    """
    low, high = float(np.min(fitted_on)), float(np.max(fitted_on))
    return np.asarray((values - low) / (high - low))


def _quantile_map(source: Floats, target: Floats, seed: int) -> PiecewiseMap:
    """Unique values at mid-ranks on both axes, linear between them: no staircase where opinions have few values."""
    x, p = _mid_ranks(source)
    y, q = _mid_ranks(target)
    knots = np.unique(np.concatenate([x, np.interp(q, p, x)]))
    return _with_tails(knots, np.interp(np.interp(knots, x, p), q, y), source)


def _mid_ranks(sample: Floats) -> tuple[Floats, Floats]:
    """Unique values in order and the mean share of the sample below their copies, each of shape [K]."""
    values, counts = np.unique(sample, return_counts=True)
    return values, (np.cumsum(counts) - counts / 2) / len(sample)


def _emd_map(source: Floats, target: Floats, seed: int) -> PiecewiseMap:
    """The mean of where the optimal plan of POT sends each value."""
    import ot

    plan = ot.emd_1d(source, target, dense=False)
    sent = np.asarray(plan @ target) * len(source)
    return _with_tails(*_mean_by_value(source, sent), source)


def _weak_map(source: Floats, target: Floats, seed: int) -> PiecewiseMap:
    """The mean of where the plan of weak optimal transport sends each quantile."""
    import ot

    x, y = _for_weak(source), _for_weak(target)
    plan = np.asarray(ot.weak.weak_optimal_transport(x[:, None], y[:, None]))
    return _with_tails(*_mean_by_value(x, plan @ y / plan.sum(axis=1)), source)


def _for_weak(sample: Floats) -> Floats:
    """The quantiles that the weak plan is solved for."""
    count = min(_WEAK_POINTS, len(sample))
    return np.asarray(np.quantile(sample, (np.arange(count) + 0.5) / count))


def _mean_by_value(source: Floats, sent: Floats) -> tuple[Floats, Floats]:
    """Unique values and the mean of where their copies are sent."""
    values, inverse, counts = np.unique(source, return_inverse=True, return_counts=True)
    return values, np.bincount(inverse, weights=sent) / counts


def _with_tails(x: Floats, y: Floats, source: Floats) -> PiecewiseMap:
    """A map through knots that goes on with the slope of the outer part of the source, within bounds."""
    slopes = []
    for end, inner in ((x[0], np.quantile(source, _OUTER)), (x[-1], np.quantile(source, 1 - _OUTER))):
        if inner == end:  # more than that share has the outermost value
            inner = x[1] if end == x[0] else x[-2]
        rise = np.interp(inner, x, y) - np.interp(end, x, y)
        slopes.append(float(np.clip(rise / (inner - end), *_SLOPES)))
    return PiecewiseMap(x, y, *slopes)


def _neural_map(source: Floats, target: Floats, seed: int) -> PiecewiseMap:
    return _learnt(source, target, seed, weak=False)


def _neural_weak_map(source: Floats, target: Floats, seed: int) -> PiecewiseMap:
    return _learnt(source, target, seed, weak=True)


def _learnt(source: Floats, target: Floats, seed: int, weak: bool) -> PiecewiseMap:
    """A learnt map, read off on a grid."""
    from harness.statistics.neural_transport import train_map

    low, high = float(source.min()), float(source.max())
    grid = low + _GRID * (high - low)
    y = train_map(source, target, seed, weak)(grid)
    ends = [(y[1] - y[0]) / (grid[1] - grid[0]), (y[-1] - y[-2]) / (grid[-1] - grid[-2])]
    return PiecewiseMap(grid, y, *map(float, ends))


MAPPINGS: Mapping[str, Callable[[Floats, Floats, int], PiecewiseMap]] = {
    "quantile": _quantile_map,
    "emd": _emd_map,
    "weak": _weak_map,
    "neural": _neural_map,
    "neural_weak": _neural_weak_map,
}
"""How maps are made, by name."""
