"""Anchored adversarial training (AAT) and the arms that take it apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from defenses.recipes.bands import Bands
from defenses.recipes.bound import hinges, nearest_anchors, theorem_1, top_mean
from defenses.recipes.clean import regression
from defenses.recipes.passes import check_shares
from harness.contracts import Entry, Metric, Recipe, TrainingBatch, register


@register("aat")
@register("aat-wide", band=1.0, regress="all")
@register("mix", band=1.0, regress="all", hinge=0.0)
@register("anchors", band=1.0, hinge=0.0)
@register("anchors-hinge", band=1.0)
@dataclass(frozen=True)
class Anchored(Recipe):
    """Unattacked anchors hold attacked images between them: (1 - hinge) x Eq. 5 + hinge x anchored loss (Eq. 6).

    A batch is a band of labels (see `Bands`), its anchors are not attacked and the other images are. The anchored loss
    is the mean of the `top` largest hinges: how far a prediction leaves those of the anchors whose labels enclose its
    own, over R, the width of a band in label units. Theorem 1 is checked on every batch.

    `aat` is the paper to the letter. The hinges over R do not depend on the scale of the labels and the MSE does, so
    the recipe file's `label_scale` decides which of them rules: at [1, 5] predictions shrink to a constant.
    `aat-wide`, `mix`, `anchors` and `anchors-hinge` are not the paper's. They see the same batches, of the whole range
    of labels, and differ in two things: whether the regression is on `all` images or on `anchors`, and the hinge.
    """

    cite = "gushchin_birqa"
    attacks: ClassVar[bool] = True
    band: float = 0.05
    """Width of a band as a share of the range of the train labels; 1 is the whole range."""
    anchors: int = 8
    """Images of a batch that are anchors."""
    top: int = 4
    """Hinges that count: the largest so many."""
    hinge: float = 0.5
    """Weight of the anchored loss; the rest is on the regression."""
    regress: Literal["anchors", "all"] = "anchors"
    """Which images the regression loss is on; `all` gives attacked images their labels, as R- does."""
    alpha: float = 0.7
    """Weight of the MSE within the regression loss; the rest is on the PLCC."""
    places: Literal["even", "quantile"] = "even"
    """Anchors lie near places spread evenly over the labels of a band, or over its images in order of label."""
    batch: int = 16
    """Images in a batch, anchors and attacked; the recipe file's ``batch``."""

    def __post_init__(self) -> None:
        check_shares(alpha=self.alpha, hinge=self.hinge)
        _ = self._bands  # refuses what cannot be had together
        if not 1 <= self.top <= self.batch - self.anchors:
            raise ValueError(
                f"top should be from 1 to {self.batch - self.anchors}, the attacked images of a batch; got {self.top}"
            )

    @cached_property
    def _bands(self) -> Bands:
        return Bands(self.band, self.batch, self.anchors, self.places)

    def check(self, entries: Sequence[Entry]) -> Sequence[str]:
        """Whether batches can be drawn, and a line on bands that hold too little.

        Raises:
            ValueError: Too few images or different labels.
        """
        return self._bands.check(_labels(entries))

    def batches(
        self, entries: Sequence[Entry], rng: np.random.Generator
    ) -> Iterator[tuple[Sequence[int], Sequence[bool]]]:
        """Bands of labels in order of label; every row that is no anchor is attacked."""
        yield from self._bands.draw(_labels(entries), rng)

    def loss(self, metric: Metric, batch: TrainingBatch) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Regression and anchored loss of one forward pass over anchors and attacked images.

        Logs ``mse`` and ``plcc`` of the images that are regressed on, ``hinge_top`` (the anchored loss), what
        `theorem_1` gives, and ``realised_span``, the range of the batch's labels in label units: above R where the
        band was widened.

        Raises:
            ContradictionError: Theorem 1 is violated: a bug.
        """
        prediction, target = metric(ref=batch["ref"], dist=batch["dist"]), batch["target"]
        low, high = batch["limits"].unbind()
        width = self.band * (high - low)
        rows = batch["attacked"].int().argsort(stable=True)  # anchors first; their number is known without asking
        anchors, others = rows[: self.anchors], rows[self.anchors :]
        if self.regress == "all":
            loss, figures = regression(prediction, target, self.alpha)
        else:
            loss, figures = regression(prediction[anchors], target[anchors], self.alpha)
        neighbours = nearest_anchors(target[others], target[anchors])
        anchored = top_mean(hinges(prediction[others], prediction[anchors], neighbours, width), self.top)
        figures |= {"hinge_top": anchored.detach(), "realised_span": target.max() - target.min()}
        figures |= theorem_1(prediction, target, anchors, others, width)
        return (1 - self.hinge) * loss + self.hinge * anchored, figures


def _labels(entries: Sequence[Entry]) -> Sequence[float]:
    """Opinion scores of a train split, every one of which has one."""
    return [entry.opinion for entry in entries if entry.opinion is not None]
