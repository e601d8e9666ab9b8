"""What plugins hand to the engine, checked where it is taken: shape, type, device, range. A fault names the plugin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.contracts import DataError, Dataset, Entry
from harness.errors import PluginFaultError, place_of, raised_in
from harness.plugins.model import Plugin
from harness.wording import quoted

MEND = "Mend the plugin, or leave it out."
"""The cure of a fault that the user did not make."""
RANGE = 1e-6
"""How far outside [0, 1] a pixel may lie, from rounding."""


def told(error: Exception) -> str:
    """An error of a plugin in one line, with the place in its file that raised it."""
    if isinstance(error, PluginFaultError):
        return str(error)
    return f"{type(error).__name__}: {error}{place_of(error)}"


def told_under(who: str, error: Exception) -> str:
    """What is said of an error under somebody's name; a fault of a plugin that begins with the name says it once."""
    text = told(error)
    return text if text.startswith((f"{who}: ", f"{who} ")) else f"{who} failed: {text}"


def told_of_plugin(error: Exception) -> str:
    """An error that came out of a plugin in one line, with whose it is."""
    return told(error) if isinstance(error, PluginFaultError) else f"{raised_in(error)}: {told(error)}"


def check_scores(scores: Any, images: Tensor, who: str) -> Tensor:
    """One float per image, where the images are.

    Args:
        scores: What a metric's ``score`` returned.
        images: The images it was given, N x 3 x H x W.
        who: The metric and where it comes from.

    Raises:
        PluginFaultError: They are something else.
    """
    count = images.shape[0]
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        seen = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise PluginFaultError(f"{who}: score() returned {seen}; it must return a tensor of shape [{count}]")
    if not scores.is_floating_point():
        raise PluginFaultError(f"{who}: score() returned {_type(scores)}; it must return floats")
    if scores.device != images.device:
        raise PluginFaultError(
            f"{who}: score() returned a tensor on {scores.device} for images on {images.device}; "
            "make new tensors on the device of the images"
        )
    return scores


def check_images(images: Any, given: Tensor, who: str, *, same_size: bool = True) -> Tensor:
    """Images of the type and on the device of those given.

    Args:
        images: What an attack's ``perturb`` or a purifier's ``apply`` returned.
        given: The images it was given, N x 3 x H x W.
        who: The plugin, where it comes from, and its method.
        same_size: Whether height and width must be kept.

    Raises:
        PluginFaultError: They are something else.
    """
    kept = given.shape if same_size else given.shape[:2]
    if not isinstance(images, Tensor) or images.ndim != given.ndim or images.shape[: len(kept)] != kept:
        seen = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        wanted = str(tuple(given.shape)) if same_size else f"({given.shape[0]}, 3, H, W)"
        raise PluginFaultError(f"{who} returned {seen}; it must return images of shape {wanted}")
    if images.dtype != given.dtype:
        raise PluginFaultError(
            f"{who} returned {_type(images)}; it must return images of the type given, {_type(given)}"
        )
    if images.device != given.device:
        raise PluginFaultError(
            f"{who} returned images on {images.device}, given images on {given.device}; "
            "make new tensors on the device of the images"
        )
    return images


def check_range(images: Tensor, who: str) -> None:
    """Pixels in [0, 1]; reads them, so it has no place inside an attack.

    Raises:
        PluginFaultError: Some are outside, or not finite.
    """
    low, high = float(images.min()), float(images.max())
    if low != low or high != high:
        raise PluginFaultError(f"{who} returned pixels that are not finite; images must lie in [0, 1]")
    if low < -RANGE or high > 1 + RANGE:
        raise PluginFaultError(f"{who} returned pixels from {low:.4g} to {high:.4g}; images must lie in [0, 1]")


def check_learnt(learnt: Any, who: str) -> Mapping[str, Tensor]:
    """Tensors by name, as an attack's ``fit`` returns them.

    Raises:
        PluginFaultError: It is something else.
    """
    if not isinstance(learnt, Mapping):
        raise PluginFaultError(f"{who}: fit() returned {type(learnt).__name__}; it must return tensors by name")
    for name, tensor in learnt.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise PluginFaultError(
                f"{who}: fit() returned {type(tensor).__name__} as '{name}'; it must return tensors by name"
            )
    return learnt


def check_sample(images: Any, names: tuple[str, ...], who: str) -> Mapping[str, Tensor]:
    """What a data set's ``load`` returned for one item: float32 images, 3 x H x W in [0, 1], under their names.

    Raises:
        PluginFaultError: It is something else.
    """
    method = f"{who}: load()"
    if not isinstance(images, Mapping) or not set(names) <= set(images):
        seen = f"the names {', '.join(map(str, images))}" if isinstance(images, Mapping) else type(images).__name__
        raise PluginFaultError(f"{method} returned {seen}; it must return a mapping with {', '.join(names)}")
    for name in names:
        image = images[name]
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
            seen = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise PluginFaultError(f"{method} returned {seen} as '{name}'; images must be 3 x H x W")
        if image.dtype != torch.float32:
            raise PluginFaultError(f"{method} returned {_type(image)} as '{name}'; images must be float32 in [0, 1]")
        if image.device.type != "cpu":
            raise PluginFaultError(f"{method} returned '{name}' on {image.device}; leave images on the CPU")
        check_range(image, f"{method}, image '{name}',")
    return images


def wrong_entries(plugin: Plugin[Any], dataset: Dataset, split: str) -> str:
    """What is wrong with a data set's list of items, empty if nothing is; no pixel is read."""
    who = f"'{plugin.name}' from {plugin.origin}"
    try:
        entries = dataset.entries(split)
        fingerprint = dataset.fingerprint()
    except DataError as error:
        return str(error)
    except Exception as error:
        return f"{who} cannot list its items: {told(error)}. {MEND}"
    if isinstance(entries, Sequence) and not entries:
        return f"'{plugin.name}' has no items in the split '{split}'. Choose another split or other filters."
    if not isinstance(entries, Sequence) or not all(isinstance(entry, Entry) for entry in entries):
        return f"{who}: entries() must return a list of Entry. {MEND}"
    if not isinstance(fingerprint, str):
        return f"{who}: fingerprint() returned {quoted(fingerprint)}; it must return text. {MEND}"
    seen: set[str] = set()
    for entry in entries:
        fault = _fault(entry)
        if fault or entry.id in seen:
            return f"{who}: the entry {quoted(entry.id)} {fault or 'is listed twice'}. {MEND}"
        seen.add(entry.id)
    return ""


def _fault(entry: Entry) -> str:
    for name in ("id", "reference_id", "group", "cluster"):
        if not isinstance(getattr(entry, name), str):
            return f"has {name} {quoted(getattr(entry, name))}, which must be text"
    for name in ("opinion", "raw", "judge"):
        value = getattr(entry, name)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            return f"has {name} {quoted(value)}, which must be a finite number or None"
    if entry.level is not None and not isinstance(entry.level, int):
        return f"has level {quoted(entry.level)}, which must be a whole number or None"
    return ""


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
