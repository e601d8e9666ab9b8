"""One pair of images, outside of any suite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.datasets.images import read_image
from harness.errors import UserError
from harness.guard import check_scores
from harness.registry import Registry
from harness.suite import MetricUse
from harness.worker import build_metric, in_messages


@dataclass(frozen=True)
class PairScore:
    """What one metric says of a pair: the score in its own units, and what these are."""

    metric: str
    score: float
    higher_is_better: bool
    weights: str
    """sha256 of the weight file, "random", or empty for metrics without weights."""


def score_pair(
    ref: Path, dist: Path, uses: Sequence[MetricUse], registry: Registry, device: str
) -> Iterator[PairScore]:
    """Score a distorted image file against its reference by every metric.

    Args:
        ref: The reference, an image file.
        dist: The distorted image, of the same size.
        uses: The metrics.
        registry: Where they come from.
        device: Where to score.

    Raises:
        UserError: A file cannot be read as an RGB image, the sizes differ, or an image is too small for a metric.
    """
    images = {"REF": read_image(ref), "DIST": read_image(dist)}
    sizes = {name: f"{image.shape[2]} x {image.shape[1]}" for name, image in images.items()}
    if sizes["REF"] != sizes["DIST"]:
        raise UserError(
            f"REF {ref} has {sizes['REF']} pixels and DIST {dist} has {sizes['DIST']}. Give two images of one size."
        )
    place = torch.device(device)
    pair = [image[None].to(place) for image in images.values()]
    for use in uses:
        metric = build_metric(use, registry, place)
        if min(pair[0].shape[-2:]) < metric.minimum_size:
            raise UserError(
                f"metric '{use.label}' needs images of at least {metric.minimum_size} px a side, and REF {ref} has "
                f"{sizes['REF']}. Give larger images, or take another metric."
            )
        with torch.no_grad():
            scores = check_scores(metric(ref=pair[0], dist=pair[1]), pair[1], in_messages(use, registry))
        yield PairScore(use.label, float(scores[0]), metric.higher_is_better, use.weights)
