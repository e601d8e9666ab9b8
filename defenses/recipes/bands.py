"""Batches of anchored training: which images, and which of them are anchors.

A batch is a band of labels. Its anchors are its two ends and the images nearest to places spread evenly between them,
so every other image lies between two anchors: coverage, as Theorem 1 needs it, holds by construction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from defenses.recipes.passes import shuffled_passes

DRAWS = 50
"""Bands drawn before one is widened."""
WIDENING = 1.5
FEWEST_LABELS = 3
"""Different labels in a band: its ends and something between them."""

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bands:
    """How batches are drawn.

    Raises:
        ValueError: The numbers cannot be had together.
    """

    width: float
    """Of a band, as a share of the range of the labels; 1 is the whole range."""
    batch: int
    """Images in a batch."""
    anchors: int
    """Images in a batch that are anchors."""
    places: Literal["even", "quantile"] = "even"
    """Anchors lie near places spread evenly over the labels, or over the images in order of label."""

    def __post_init__(self) -> None:
        if not 0 < self.width <= 1:
            raise ValueError(f"band should be above 0 and at most 1, the whole range of the labels, got {self.width}")
        if not 2 <= self.anchors < self.batch:
            raise ValueError(
                f"anchors should be from 2, the ends of a band, to {self.batch - 1}, so that one of the {self.batch} "
                f"images of a batch is attacked; got {self.anchors}. Change anchors, or the recipe file's batch."
            )

    def check(self, labels: Sequence[float]) -> Sequence[str]:
        """What the labels of a train split mean for the bands.

        Returns:
            A line on the bands that hold too little, if there are any.

        Raises:
            ValueError: No batch can be drawn of them.
        """
        values = np.asarray(labels, np.float64)
        different = len(np.unique(values))
        if len(values) < self.batch or different < FEWEST_LABELS:
            raise ValueError(
                f"the train split has {len(values)} images with {different} different labels, and a batch of anchored "
                f"training needs {self.batch} images with {FEWEST_LABELS}. Lower the recipe file's batch, or train on "
                "another split."
            )
        if self.width == 1:
            return ()
        low, high = values.min(), values.max()
        span = self.width * (high - low)
        count = math.ceil(1 / self.width - 1e-9)
        thin = [start for start in np.linspace(low, high - span, count) if not self._holds(values, start, span)]
        if not thin:
            return ()
        then = "so every band is widened" if len(thin) == count else f"such a draw is repeated, up to {DRAWS} times"
        return (
            f"{len(thin)} of the {count} bands that cover the labels hold fewer than {self.batch} images or "
            f"{FEWEST_LABELS} different labels: {then}. Images there are seen less often than others, if at all.",
        )

    def draw(self, labels: Sequence[float], rng: np.random.Generator) -> Iterator[tuple[list[int], list[bool]]]:
        """Endless batches: indices in order of label, and flags that are False for anchors.

        Bands of the whole range are shuffled passes over all images. A narrower band is drawn uniformly, and drawn
        anew while it holds too little; every 50 draws it is widened by half, until it holds enough.

        Args:
            labels: Of the train split; `check` has passed them.
            rng: Where every draw comes from.
        """
        values = np.asarray(labels, np.float64)
        passes = shuffled_passes(len(values), self.batch, rng)
        while True:
            if self.width == 1:
                rows = np.asarray(next(passes))
                rows = rows[np.argsort(values[rows], kind="stable")]
                anchors = anchor_places(values[rows], self.anchors, self.places)
            else:
                rows, anchors = self._of_a_band(values, rng)
            flags = np.ones(self.batch, bool)
            flags[anchors] = False
            yield rows.tolist(), flags.tolist()

    def _of_a_band(self, values: _Floats, rng: np.random.Generator) -> tuple[npt.NDArray[np.int64], list[int]]:
        """Rows in order of label, and which of them are anchors."""
        band = self._band(values, rng)
        band = rng.permutation(band)  # so that it is chance which of equal labels becomes an anchor
        band = band[np.argsort(values[band], kind="stable")]
        anchors = anchor_places(values[band], self.anchors, self.places)
        others = rng.choice(np.setdiff1d(np.arange(len(band)), anchors), self.batch - self.anchors, replace=False)
        chosen = np.sort(np.concatenate((anchors, others)))
        return band[chosen], np.searchsorted(chosen, anchors).tolist()

    def _band(self, values: _Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Indices of the images in a band that holds enough."""
        low, high = values.min(), values.max()
        span = self.width * (high - low)
        while span < high - low:
            for _ in range(DRAWS):
                start = rng.uniform(low, high - span)
                if self._holds(values, start, span):
                    return _within(values, start, span)
            span *= WIDENING
        return np.arange(len(values))

    def _holds(self, values: _Floats, start: float, span: float) -> bool:
        inside = values[_within(values, start, span)]
        return len(inside) >= self.batch and len(np.unique(inside)) >= FEWEST_LABELS


def _within(values: _Floats, start: float, span: float) -> npt.NDArray[np.int64]:
    return np.flatnonzero((values >= start) & (values <= start + span))


def anchor_places(labels: _Floats, count: int, places: Literal["even", "quantile"] = "even") -> list[int]:
    """The first, the last, and for each place between them in turn the nearest label that is not taken yet.

    Args:
        labels: In rising order, at least `count` of them.
        count: Anchors wanted, at least 2.
        places: Whether places are spread evenly over the labels or over their order.

    Returns:
        Indices into `labels`, rising; of two that are as near the lower one.
    """
    wanted = np.linspace(labels[0], labels[-1], count)
    if places == "quantile":
        wanted = np.quantile(labels, np.linspace(0, 1, count))
    free = np.ones(len(labels), bool)
    free[[0, -1]] = False
    for place in wanted[1:-1]:
        nearest = int(np.where(free, np.abs(labels - place), np.inf).argmin())
        free[nearest] = False
    return np.flatnonzero(~free).tolist()
