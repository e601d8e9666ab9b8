"""One pair of images, outside of any suite."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.datasets.images import read_image
from harness.engine.scorer import in_messages, load_metric
from harness.errors import DataError, UserError
from harness.plugins.registry import Registry
from harness.plugins.returned import RANGE, check_scores
from harness.suite.model import MetricUse
from harness.suite.resolve import resolve_metric

Image = Path | str | Tensor | npt.NDArray[Any]
"""An image file; or RGB floats in [0, 1]: a tensor of 3 x H x W or 1 x 3 x H x W, or an array of H x W x 3."""


@dataclass(frozen=True)
class PairScore:
    """What one metric says of a pair: the score in its own units, and what these are."""

    metric: str
    score: float
    higher_is_better: bool
    weights: str
    """sha256 of the weights, "random", or empty for metrics without weights."""


def score(
    ref: Image,
    dist: Image,
    metric: str = "psnr",
    *,
    weights: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
    device: str = "cpu",
) -> PairScore:
    """Score one distorted image against its reference.

    Args:
        ref: The reference: a file, a tensor of 3 x H x W or 1 x 3 x H x W, or an array of H x W x 3; RGB, and floats in
            [0, 1] unless it is a file.
        dist: The distorted image, of the same size.
        metric: A registered name.
        weights: What a suite says under ``weights``: a name, a file, a folder of published files, or "random".
        parameters: Parameters of the metric, as in a suite.
        registry: Where the metric comes from; by default everything that is installed.
        device: Where to score.

    Raises:
        UserError: An image is not as above, the sizes differ, an image is too small for the metric, or the metric, its
            parameters or its weights cannot be had. The message names the argument.
    """
    registry = registry or Registry()
    given = {**(parameters or {}), **({} if weights is None else {"weights": str(weights)})}
    try:
        sets = [f"{key}={json.dumps(value)}" for key, value in given.items()]
    except (TypeError, ValueError) as error:
        raise UserError(f"parameters: {error}. Give plain values: text, numbers, truth values, lists.") from error
    return next(score_pair(ref, dist, [resolve_metric(str(metric), sets, registry)], registry, device))


def score_pair(
    ref: Image, dist: Image, uses: Sequence[MetricUse], registry: Registry, device: str
) -> Iterator[PairScore]:
    """Score a distorted image against its reference by every metric.

    Args:
        ref: The reference.
        dist: The distorted image, of the same size.
        uses: The metrics.
        registry: Where they come from.
        device: Where to score.

    Raises:
        UserError: An image is no `Image`, the sizes differ, or an image is too small for a metric.
    """
    images = {"ref": read_argument("ref", ref), "dist": read_argument("dist", dist)}
    first, second = _named("ref", ref), _named("dist", dist)
    sizes = {name: f"{image.shape[2]} x {image.shape[1]}" for name, image in images.items()}
    if sizes["ref"] != sizes["dist"]:
        raise UserError(
            f"{first} has {sizes['ref']} pixels and {second} has {sizes['dist']}. Give two images of one size."
        )
    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}). Give cpu or cuda."
        ) from error
    pair = [image[None].to(place) for image in images.values()]
    for use in uses:
        metric = load_metric(use, registry, place)
        if min(pair[0].shape[-2:]) < metric.minimum_size:
            raise UserError(
                f"metric '{use.label}' needs images of at least {metric.minimum_size} px a side, and {first} has "
                f"{sizes['ref']}. Give larger images, or take another metric."
            )
        with torch.no_grad():
            scores = check_scores(metric(ref=pair[0], dist=pair[1]), pair[1], in_messages(use, registry))
        yield PairScore(use.label, float(scores[0]), metric.higher_is_better, use.weights)


def read_argument(name: str, image: Image) -> Tensor:
    """An image that was handed over, 3 x H x W float32 RGB in [0, 1] on the CPU.

    Args:
        name: What the argument is called, for messages.
        image: The image.

    Raises:
        DataError: It is no RGB image of floats in [0, 1], or a file that cannot be read as one.
    """
    if isinstance(image, str | Path):
        try:
            return read_image(image, grey=False)
        except DataError as error:
            raise DataError(f"{name.upper()}: {error}") from error
    if isinstance(image, np.ndarray):
        floats, kind = np.issubdtype(image.dtype, np.floating), str(image.dtype)
    elif isinstance(image, Tensor):
        floats, kind = image.is_floating_point(), str(image.dtype).removeprefix("torch.")
    else:
        raise DataError(f"{name} is of type {type(image).__name__}. Give a file, a tensor or an array.")
    if not floats:
        raise DataError(f"{name} holds {kind}, not floats. Give floats in [0, 1]; 8-bit values are divided by 255.")
    values = _channels_first(name, image)
    if not bool(values.isfinite().all()):
        raise DataError(f"{name} holds values that are not finite (NaN or infinity). Give floats in [0, 1].")
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if low < -RANGE or high > 1 + RANGE:
        raise DataError(f"{name} holds values from {low:.4g} to {high:.4g}. Rescale or clip them to [0, 1].")
    return values.clamp(0, 1)


def _channels_first(name: str, image: Tensor | npt.NDArray[Any]) -> Tensor:
    """A tensor of 3 x H x W, 1 x 3 x H x W or an array of H x W x 3 as 3 x H x W float32."""
    shape, is_array = tuple(image.shape), isinstance(image, np.ndarray)
    one = shape[1:] if not is_array and len(shape) == 4 and shape[0] == 1 else shape
    if len(one) != 3 or one[-1 if is_array else 0] != 3:
        drawn = " x ".join(map(str, shape)) or "()"
        raise DataError(f"{name} has the shape {drawn}, no RGB image; give {_layout_cure(one, is_array)}.")
    if isinstance(image, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
    return image.detach().reshape(one).to("cpu", torch.float32)


def _layout_cure(shape: Sequence[int], is_array: bool) -> str:
    """The layout that is wanted, and how to get there from this shape of an image."""
    channels = shape[-1 if is_array else 0] if len(shape) == 3 else 0
    cure = "H x W x 3" if is_array else "3 x H x W"
    if len(shape) == 3 and 3 in (shape[0], shape[-1]):
        return cure + (
            ": transpose(1, 2, 0) moves the channels" if is_array else ": permute(2, 0, 1) moves the channels"
        )
    if len(shape) == 2 or channels == 1:
        return f"{cure}: repeat the grey channel three times"
    return f"{cure}: flatten transparency onto a background and drop the fourth channel" if channels == 4 else cure


def _named(name: str, image: Image) -> str:
    """An argument in messages: as the command line calls it where it is a file."""
    return f"{name.upper()} {image}" if isinstance(image, str | Path) else name
