"""How good a metric is on a split, and whether it is turning into a constant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from harness.contracts import Entry, Metric
from harness.statistics.two_afc import hard_accuracy
from harness.training.images import ImageCache, opinions, whole_batches
from harness.training.link import Linked
from harness.training.recipe_file import RecipeFile

COLLAPSE = 0.2
"""Alarm below this std(prediction) / std(label) on the validation split: the metric is turning into a constant."""
MEASURES = {"pairs": "srocc", "triplets": "accuracy"}
"""Kind of data set -> what weights are chosen by: SROCC, or the hard 2AFC accuracy (split judges left out)."""
WORDS = {"srocc": "SROCC", "plcc": "PLCC", "accuracy": "2AFC accuracy"}


class Validation(NamedTuple):
    """One validation."""

    step: int
    figure: float
    """SROCC, or of triplets the hard 2AFC accuracy."""
    spread: float
    """std(prediction) / std(label); of triplets, of the preference."""
    loss: float
    """Mean training loss since the validation before."""
    collapsed: bool
    shift_up: float | None = None
    """Mean change of quality by PGD upwards, in standard deviations of clean quality; None without robust validation.

    Of triplets, of the rejected patch."""
    shift_down: float | None = None
    """Likewise downwards; of triplets, of the preferred patch."""
    pair: float | None = None
    """Robust pair accuracy; of triplets the hard 2AFC accuracy under attack."""

    def robust(self) -> dict[str, float]:
        """The figures of robust validation by name; empty where there was none."""
        found = {"shift_up": self.shift_up, "shift_down": self.shift_down, "pair": self.pair}
        return {key: value for key, value in found.items() if value is not None}


Qualities = NDArray[np.float32]
"""Of every distorted image, N x 1, or N x 2 of triplets; the metric's own units, higher is better."""


def qualities(metric: Metric, entries: Sequence[Entry], images: ImageCache, device: torch.device) -> Qualities:
    """Score a split by a metric in evaluation mode."""
    sign = 1.0 if metric.higher_is_better else -1.0
    metric.eval()
    scored: list[Tensor] = []
    with torch.no_grad():
        for batch in whole_batches(entries, images):
            ref, *shown = batch.to(device).unbind(dim=1)
            scored.append(torch.stack([sign * metric(ref=ref, dist=dist) for dist in shown], dim=1).cpu())
    found: Qualities = torch.cat(scored).numpy()
    return found


def validation(
    quality: Qualities, entries: Sequence[Entry], file: RecipeFile, link: Linked | None
) -> tuple[float, float]:
    """(Figure that weights are chosen by, std(prediction) / std(label)); the latter not finite after an overflow."""
    linked = quality
    if link is not None:
        with torch.no_grad():
            linked = link.linked(torch.from_numpy(quality).to(link.a.device)).cpu().numpy()
    if quality.shape[1] == 2:
        judge = np.array([entry.judge for entry in entries])
        preference = 1 / (1 + np.exp(-(linked[:, 1] - linked[:, 0]).astype(np.float64)))
        return hard_accuracy(quality[:, 0], quality[:, 1], judge)[0], float(preference.std() / judge.std())
    predicted, labels = quality[:, 0], opinions(entries, file).numpy()
    figure = float(stats.spearmanr(predicted, labels).statistic) if predicted.min() < predicted.max() else 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        return figure, float(linked[:, 0].std() / labels.std())


def tested(quality: Qualities, entries: Sequence[Entry]) -> dict[str, Any]:
    """What is reported of the test split: SROCC and PLCC, or the hard 2AFC accuracy, and of how many."""
    references = len({entry.reference_id for entry in entries})
    if quality.shape[1] == 2:
        judge = np.array([entry.judge for entry in entries])
        accuracy, left_out = hard_accuracy(quality[:, 0], quality[:, 1], judge)
        return {"accuracy": accuracy, "triplets": len(entries), "undecided": left_out, "references": references}
    predicted = quality[:, 0].astype(np.float64)
    labels = np.array([entry.opinion for entry in entries])
    constant = predicted.min() == predicted.max()
    return {
        "srocc": 0.0 if constant else float(stats.spearmanr(predicted, labels).statistic),
        "plcc": 0.0 if constant else float(stats.pearsonr(predicted, labels).statistic),
        "pairs": len(entries),
        "references": references,
    }


def best_of(history: Sequence[Validation]) -> Validation:
    """The first validation of the highest merit."""
    return max(history, key=merit)


def merit(point: Validation) -> tuple[bool, float]:
    """What weights are chosen by, higher is better: first that they did not collapse, then a figure.

    The figure is the robust pair accuracy where there is one, else that of the validation; least if not known.
    """
    figure = point.pair if point.pair is not None else point.figure
    return not point.collapsed, -math.inf if math.isnan(figure) else figure


def ran_out(history: Sequence[Validation], patience: int | None) -> bool:
    """Whether the last `patience` validations were no better than one before them."""
    if patience is None or not history:
        return False
    return len(history) - 1 - history.index(best_of(history)) >= patience
