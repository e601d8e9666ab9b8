"""Anchors on both sides of an attacked image, how far it leaves them, and the bound of Theorem 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.contracts import ContradictionError

_ROUNDING = 1e-6
"""Of 1 + the largest value: what sums of a few float64 numbers may be off by, with room.

The rule by which `harness.training.curves` counts violations; neither may import the other."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest anchors of each image that is none."""

    below: Tensor
    """Index of the anchor with the largest label at or below the image's own, [J]."""
    above: Tensor
    """Index of the anchor with the smallest label at or above it, [J]; of equal labels the one that `below` names."""
    has_below: Tensor
    """Whether there is an anchor at or below, bool [J]; where there is none, `below` means nothing."""
    has_above: Tensor
    """Whether there is an anchor at or above, bool [J]; where there is none, `above` means nothing."""

    @property
    def covered(self) -> Tensor:
        """Whether every image lies between two anchors: a bool without axes."""
        return (self.has_below & self.has_above).all()


def nearest_anchors(labels: Tensor, anchors: Tensor) -> Neighbours:
    """The anchors next to each label.

    Args:
        labels: Of the images that are no anchors, [J].
        anchors: Labels of the anchors, [M], in any order.
    """
    rising, order = anchors.sort(stable=True)
    up_to = torch.searchsorted(rising, labels, right=True)  # how many anchors lie at or below
    under = torch.searchsorted(rising, labels)  # how many lie below
    last = len(anchors) - 1
    lower = torch.searchsorted(rising, rising[(up_to - 1).clamp_min(0)])  # the first of equal anchors, as `under` is
    return Neighbours(order[lower], order[under.clamp_max(last)], up_to > 0, under <= last)


def hinges(predictions: Tensor, anchors: Tensor, neighbours: Neighbours, width: Tensor | float) -> Tensor:
    """How far each prediction lies above its upper anchor's or below its lower anchor's, in band widths.

    max(v+, v-) / R with v+ = (prediction - upper anchor's)+ and v- = (lower anchor's - prediction)+.

    Args:
        predictions: Of the images that are no anchors, [J].
        anchors: Predictions of the anchors, [M].
        neighbours: Whose labels they lie between.
        width: R, in units of the predictions.

    Returns:
        Shape [J], 0 or more.
    """
    over = (predictions - anchors[neighbours.above]).clamp_min(0) * neighbours.has_above
    under = (anchors[neighbours.below] - predictions).clamp_min(0) * neighbours.has_below
    return torch.maximum(over, under) / width


def top_mean(values: Tensor, count: int) -> Tensor:
    """Mean of the `count` largest of at least as many values."""
    return values.topk(count).values.mean()


@torch.no_grad()
def theorem_1(
    predictions: Tensor, labels: Tensor, anchors: Tensor, others: Tensor, width: Tensor | float
) -> Mapping[str, Tensor]:
    """The bound on every error of a batch by what its anchors and its hinges say, held against the largest error.

    B = eps + eta + R x delta: eps the largest error of an anchor, eta the largest distance of a label from the next
    anchor's, delta the largest hinge (not the mean of the top k that is trained on). It holds for any predictions and
    any R wherever every image lies between two anchors, so a violation is a fault of this code. It says nothing about
    robustness: a model that answers a constant satisfies it, too.

    Args:
        predictions: Of a whole batch in one forward pass, [N].
        labels: Of the batch, [N].
        anchors: Indices of the anchors, [M].
        others: Indices of the other images, [J].
        width: R, in units of the labels.

    Returns:
        ``anchor_error`` (eps), ``spacing`` (eta), ``hinge_max`` (delta), ``coverage`` (1 or 0), ``bound`` (B),
        ``worst`` (the largest error), ``largest`` (label or prediction, by magnitude) and ``slack`` (B less the
        error), float64; without coverage ``bound`` and ``slack`` are nan.

    Raises:
        ContradictionError: The bound does not hold.
    """
    quality, label, span = predictions.double(), labels.double(), torch.as_tensor(width).double()
    anchor_quality, anchor_label = quality[anchors], label[anchors]
    other_quality, other_label = quality[others], label[others]
    neighbours = nearest_anchors(other_label, anchor_label)
    error = (quality - label).abs()
    eps = error[anchors].max()
    gaps = torch.maximum(other_label - anchor_label[neighbours.below], anchor_label[neighbours.above] - other_label)
    delta = hinges(other_quality, anchor_quality, neighbours, span).max()
    covered = neighbours.covered
    bound = torch.where(covered, eps + gaps.max() + span * delta, torch.nan)
    worst = error.max()
    largest = torch.maximum(quality.abs().max(), label.abs().max())
    allowed = bound + _ROUNDING * (1 + largest)
    if bool(worst > allowed):  # never where the bound is nan
        raise ContradictionError(
            f"Theorem 1 is violated: an error of {float(worst):.9g} where the bound is {float(bound):.9g} (anchors err "
            f"by {float(eps):.9g}, labels lie {float(gaps.max()):.9g} from the next anchor's, the largest hinge is "
            f"{float(delta):.9g} of {float(span):.9g}). This is a bug; please report it."
        )
    return {
        "anchor_error": eps,
        "spacing": gaps.max(),
        "hinge_max": delta,
        "coverage": covered.double(),
        "bound": bound,
        "worst": worst,
        "largest": largest,
        "slack": bound - worst,
    }
